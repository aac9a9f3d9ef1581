"""A constant, or one after a lower start."""

from __future__ import annotations

import jax.numpy as jnp

from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import check


@schedule
def constant(value: float) -> Schedule:
    """value, at every step. For `join`, or where a schedule is asked for.

    >>> float(constant(0.5)(10))
    0.5
    """
    return Schedule(lambda t: jnp.full_like(t, value))


@schedule
def constant_factor(value: float, factor: float = 1 / 3, steps: int = 5) -> Schedule:
    """value·factor for t < steps, then value, as torch's `ConstantLR`.

    **Arguments** (defaults are torch's): `value`; `factor`, any number, where torch takes those
    in [0, 1] and then divides by it; `steps` ≥ 0.

    >>> [float(constant_factor(1.0, 0.5, 2)(t)) for t in (0, 1, 2, 9)]
    [0.5, 0.5, 1.0, 1.0]
    """
    (edge,) = check("constant_factor", 0, steps=steps)
    return Schedule(lambda t: jnp.where(t < edge, value * factor, value).astype(t.dtype))
