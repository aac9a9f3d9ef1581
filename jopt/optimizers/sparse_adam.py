"""Adam for tables of which each step sees a few rows."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Spec, Steps, Value, optimizer, rowwise
from jopt.core.vocabulary import B1, B2, EPS, MU, NU, RATE
from jopt.numerics import Ratio, debias, lerp

SPEC = Spec(
    name="sparse_adam",
    torch="SparseAdam",
    hypers=(RATE, B1, B2, EPS),
    slots=(MU, NU),
    options={"maximize": "maximize"},
    gives="direction",
    counts=True,
    sparse="rows",
    params_by=(),
)


def prepare(h: Any) -> dict[str, Any]:
    """Both bias corrections, as one factor."""
    return {"factor": jnp.sqrt(debias(h.b2, h.t)) / debias(h.b1, h.t)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sparse_adam`; every letter is the rows that have a gradient."""
    mu = lerp(s.mu, g, 1 - h.b1)
    # Infinite squares would be NaN at the next step, as ∞ − ∞.
    square = jnp.minimum(jnp.square(g), float(jnp.finfo(g.dtype).max))
    nu = lerp(s.nu, square, 1 - h.b2)
    return Ratio(mu, jnp.sqrt(nu) + h.eps, h.factor), {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare, door=rowwise)
def sparse_adam(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    **common: Unpack[Steps],
) -> None:
    """Adam on the rows that have a gradient, as `torch.optim.SparseAdam`.

    With η the learning rate, t the step from 1, and only for the rows in the gradient:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← ν + (1 − β₂)·(g² − ν)
        p ← p − η·√(1 − β₂ᵗ) / (1 − β₁ᵗ) · μ / (√ν + ε)

    Rows without gradient keep their moments and their place. As in torch, t counts every step
    and not a row's own, and ε is not bias-corrected, unlike Adam's.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0.
    - `**common`: `maximize`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Steps`.

    Gradients are `BCOO` arrays with one sparse axis, see `jopt.row_gradient`; the updates are
    too, and `jopt.apply_updates` adds them row by row. Under `jit` with donated state and
    parameters the cost of a step does not grow with the table.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range; `TreeError` for a dense gradient.

    Source: Kingma and Ba, 2015, algorithm 1, made lazy as in torch. Where g² is infinite in
    float32, the largest number stands for it; torch has NaN at the next step.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sparse_adam(0.1)
    >>> params = {"table": jnp.ones((1000, 2))}
    >>> rows = jopt.row_gradient([3, 7], jnp.ones((2, 2)), params["table"])
    >>> updates, state = tx.update({"table": rows}, tx.init(params), params)
    >>> new = jopt.apply_updates(params, updates)["table"]
    >>> [round(float(x), 4) for x in new[2:4, 0]]
    [1.0, 0.9]
    """
