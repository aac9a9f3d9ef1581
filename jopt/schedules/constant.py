"""A constant."""

from __future__ import annotations

import jax.numpy as jnp

from jopt.schedules.schedule import Schedule, schedule


@schedule
def constant(value: float) -> Schedule:
    """value, at every step. For `join`, or where a schedule is asked for.

    >>> float(constant(0.5)(10))
    0.5
    """
    return Schedule(lambda t: jnp.full_like(t, value))
