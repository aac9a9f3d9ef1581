"""A straight line, then flat."""

from __future__ import annotations

import jax.numpy as jnp

from jopt.schedules.schedule import Schedule, check, schedule


@schedule
def linear(init_value: float, end_value: float, steps: int) -> Schedule:
    """init + (end − init)·min(t / steps, 1).

    **Arguments:** `init_value` at step 0; `end_value` from step `steps` on.

    >>> [round(float(linear(0.0, 1.0, 4)(t)), 6) for t in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    check("linear", steps=steps)
    return Schedule(lambda t: init_value + (end_value - init_value) * jnp.minimum(t / steps, 1.0))
