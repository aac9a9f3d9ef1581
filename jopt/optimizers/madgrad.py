"""MADGRAD: Adagrad by dual averaging, with momentum."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, EPS, RATE

SPEC = Spec(
    name="madgrad",
    hypers=(RATE, Hyper("momentum", "[0, 1)"), EPS, DECAY),
    # The parameter is made of these alone: what rounding takes from one would move it.
    slots=(
        Slot("start", init=lambda p: p, compress=False),
        Slot("grad_sum", compress=False),
        Slot("sum_of_squares", signed=False, compress=False),
    ),
    gives="step",
    decay="gradient",
    counts=True,
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The weight of this step's gradient."""
    return {"weight": (h.learning_rate + h.eps) * jnp.sqrt(h.t)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `madgrad`."""
    total = s.grad_sum + h.weight * g
    squares = s.sum_of_squares + h.weight * jnp.square(g)
    some = squares > 0  # the root has no derivative at 0
    under = jnp.where(some, jnp.cbrt(jnp.where(some, squares, 1)), 0) + h.eps
    z = s.start - total / under
    new = {"start": s.start, "grad_sum": total, "sum_of_squares": squares}
    return (1 - h.momentum) * (p - z), new


@optimizer(SPEC, rule, prepare=prepare)
def madgrad(
    learning_rate: Value = 1e-2,
    momentum: Value = 0.9,
    *,
    weight_decay: Value = 0.0,
    eps: Value = 1e-6,
    **common: Unpack[Coupled],
) -> None:
    """MADGRAD: from the start along the sum of all gradients, over the cube root of their squares.

    With η the learning rate, λ the weight decay, x₀ the parameter at the start and t the step
    from 1:

        g ← g + λ·p
        w ← (η + ε)·√t
        s ← s + w·g
        ν ← ν + w·g²
        z ← x₀ − s / (∛ν + ε)
        p ← β·p + (1 − β)·z

    **Arguments** (defaults are those of the authors' code):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `momentum`: β in [0, 1).
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled). It suits the rule badly: try less
      than with others, or 0.
    - `eps`: ε ≥ 0.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `start`, x₀, `grad_sum`, s, and `sum_of_squares`, ν, like the parameters, in at
    least float32, never compressed, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Defazio and Jelassi, 2022, algorithm 1. The ε beside η is the authors' code's.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.madgrad(0.1, momentum=0.0)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.7286
    """
