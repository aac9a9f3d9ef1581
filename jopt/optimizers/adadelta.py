"""Adadelta."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import safe_sqrt

SPEC = Spec(
    name="adadelta",
    torch="Adadelta",
    hypers=(
        RATE,
        Hyper("rho", "[0, 1]", torch="rho"),
        EPS,
        DECAY,
    ),
    slots=(
        Slot("nu", torch="square_avg", signed=False),
        Slot("nu_delta", torch="acc_delta", signed=False),
    ),
    options={"maximize": "maximize"},
    gives="direction",
    decay="gradient",
    counts=True,
    ageless=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adadelta`."""
    nu = h.rho * s.nu + (1 - h.rho) * jnp.square(g)
    d = safe_sqrt(s.nu_delta + h.eps) / safe_sqrt(nu + h.eps) * g
    nu_delta = h.rho * s.nu_delta + (1 - h.rho) * jnp.square(d)
    return d, {"nu": nu, "nu_delta": nu_delta}


@optimizer(SPEC, rule)
def adadelta(
    learning_rate: Value = 1.0,
    rho: Value = 0.9,
    eps: Value = 1e-6,
    weight_decay: Value = 0.0,
    **common: Unpack[Coupled],
) -> None:
    """Adadelta, as `torch.optim.Adadelta`: steps in the parameters' own units.

    With η the learning rate, λ the weight decay, ν and ν_d running means of g² and d²:

        g ← g + λ·p
        ν ← ρ·ν + (1 − ρ)·g²
        d ← √(ν_d + ε) / √(ν + ε)·g
        ν_d ← ρ·ν_d + (1 − ρ)·d²
        p ← p − η·d

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule; the paper has none, that is 1.
    - `rho`: ρ in [0, 1], the decay of both means.
    - `eps`: ε ≥ 0, inside both roots: it sets the size of the first step. With 0 nothing ever
      moves, and an entry that never had a gradient is 0 / 0.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `nu` and `nu_delta` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Zeiler, 2012, algorithm 1.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adadelta(100.0)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.6838
    """
