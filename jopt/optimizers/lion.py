"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, MU, RATE
from jopt.numerics import lerp

SPEC = Spec(
    name="lion",
    hypers=(RATE, B1, B2, DECAY),
    slots=(MU,),
    gives="direction",
    decay="step",
    params_by=("weight_decay",),
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `lion`."""
    return jnp.sign(lerp(s.mu, g, 1 - h.b1)), {"mu": lerp(s.mu, g, 1 - h.b2)}


@optimizer(SPEC, rule)
def lion(
    learning_rate: Value = 1e-4,
    b1: Value = 0.9,
    b2: Value = 0.99,
    *,
    weight_decay: Value = 1e-3,
    **common: Unpack[Decoupled],
) -> None:
    """Lion: every entry moves by ±η, along the sign of an interpolated momentum.

    With η the learning rate and λ the weight decay:

        d ← sign(β₁·μ + (1 − β₁)·g)
        μ ← β₂·μ + (1 − β₂)·g
        p ← p·(1 − η·λ) − η·d

    All entries move equally far, so η wants to be three to ten times less than AdamW's, and λ as
    much more.

    **Arguments** (η, β₁ and β₂ are the paper's defaults, λ is optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1): how the gradient enters d and μ.
    - `weight_decay`: λ ≥ 0, decoupled. It multiplies η, so a schedule for η also drives the decay.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu` like the parameters, in at least float32.

    **Raises:** `ConfigError` for a number out of range.

    Source: Chen et al., 2023, program 1.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.lion(0.1, weight_decay=0.0)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
