"""Yogi: Adam whose second moment changes by no more than a squared gradient."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Number, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE
from jopt.numerics import adam_corrections, adam_direction, lerp

SPEC = Spec(
    name="yogi",
    hypers=(
        RATE,
        B1,
        B2,
        EPS,
        Hyper("initial_accumulator_value", "[0, inf)", scheduled=False),
        DECAY,
    ),
    slots=(MU, Slot("nu", init="initial_accumulator_value", signed=False)),
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections."""
    return adam_corrections(h.b1, h.b2, h.t)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `yogi`."""
    # A square that is infinite would be NaN at the next step, less itself.
    square = jnp.minimum(jnp.square(g), float(jnp.finfo(g.dtype).max) / 2)
    mu = lerp(s.mu, g, 1 - h.b1)
    nu = s.nu - (1 - h.b2) * jnp.sign(s.nu - square) * square
    return adam_direction(mu, nu, h.eps, h.k1, h.k2), {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def yogi(
    learning_rate: Value = 1e-2,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-3,
    *,
    initial_accumulator_value: Number = 1e-6,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """Yogi: a second moment that a burst of gradients cannot forget at once.

    With η the learning rate, λ the weight decay and t the step from 1:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← ν − (1 − β₂)·sign(ν − g²)·g²
        d ← μ / (1 − β₁ᵗ) / (√ν / √(1 − β₂ᵗ) + ε)
        p ← p·(1 − η·λ) − η·d

    **Arguments** (defaults are the paper's, what ν starts from is optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `initial_accumulator_value`: what ν starts from, ≥ 0. A number, read when the state is made.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range, or a schedule for
    `initial_accumulator_value`.

    Source: Zaheer, Reddi, Sachan, Kale and Kumar, 2018, algorithm 2, with Adam's bias
    corrections, as optax has them. optax starts μ, too, at 10⁻⁶, so that its parameters move
    while the gradient is 0; here μ starts at 0, as the paper's. g² stops at half the largest
    number of its dtype.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.yogi(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9001
    """
