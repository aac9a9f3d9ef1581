"""Optimistic gradient descent: for games, where plain descent runs in circles."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, RATE
from jopt.numerics import in_place

SPEC = Spec(
    name="optimistic_gradient_descent",
    hypers=(RATE, Hyper("alpha"), Hyper("beta"), DECAY),
    # What is stored in few bits has no difference to speak of.
    slots=(Slot("previous", compress=False),),
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `optimistic_gradient_descent`."""
    change = jnp.where(h.t == 1, 0, g - s.previous)
    return h.alpha * g + h.beta * change, {"previous": in_place(g, s.previous, h.t > 0)}


@optimizer(SPEC, rule)
def optimistic_gradient_descent(
    learning_rate: Value = 1e-3,
    alpha: Value = 1.0,
    beta: Value = 1.0,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Coupled],
) -> None:
    """Optimistic gradient descent: along the gradient as it is about to be, if it goes on changing.

    With η the learning rate, λ the weight decay and g₋ the gradient of the step before (g itself
    at the first):

        g ← g + λ·p
        p ← p − η·(α·g + β·(g − g₋))

    In a game of two that pull at each other, gradient descent circles around the solution or
    away from it; this goes there.

    **Arguments** (α and β are the paper's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `alpha`: α, any number.
    - `beta`: β, any number: how far to look ahead.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `previous`, the gradient of the step before, like the parameters, in at least
    float32 and never compressed; and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Mokhtari, Ozdaglar and Pattathil, 2020, the generalized method.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.optimistic_gradient_descent(0.1), {"w": jnp.float32(1.0)}
    >>> state = tx.init(params)
    >>> for g in (2.0, 1.0):
    ...     updates, state = tx.update({"w": jnp.float32(g)}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> round(float(params['w']), 4)
    0.8
    """
