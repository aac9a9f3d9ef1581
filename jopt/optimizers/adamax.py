"""Adamax: Adam with the infinity norm."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE
from jopt.numerics import Ratio, debias, lerp

SPEC = Spec(
    name="adamax",
    torch="Adamax",
    hypers=(RATE, B1, B2, EPS, DECAY),
    slots=(MU, Slot("nu", torch="exp_inf", signed=False)),
    options={"maximize": "maximize"},
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias correction of μ."""
    return {"k1": 1 / debias(h.b1, h.t)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adamax`."""
    mu = lerp(s.mu, g, 1 - h.b1)
    nu = jnp.maximum(h.b2 * s.nu, jnp.abs(g) + h.eps)
    return Ratio(mu, nu, h.k1), {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def adamax(
    learning_rate: Value = 2e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Coupled],
) -> None:
    """Adamax, as `torch.optim.Adamax`: Adam whose second moment is a decaying maximum.

    With η the learning rate, λ the weight decay and t the step from 1:

        g ← g + λ·p
        μ ← μ + (1 − β₁)·(g − μ)
        ν ← max(β₂·ν, |g| + ε)
        p ← p − η / (1 − β₁ᵗ) · μ / ν

    ν needs no bias correction: it is a maximum, not a mean.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, inside the maximum. With 0, an entry that never had a gradient is 0 / 0.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Kingma and Ba, 2015, algorithm 2, with torch's ε, which the paper does not have.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adamax(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
