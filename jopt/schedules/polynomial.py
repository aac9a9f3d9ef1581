"""A polynomial decay, then flat."""

from __future__ import annotations

import jax.numpy as jnp

from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import check


@schedule
def polynomial(
    init_value: float, steps: int, power: float = 1.0, *, end_value: float = 0.0
) -> Schedule:
    """end + (init − end)·(1 − min(t / steps, 1))ᵖ, as torch's `PolynomialLR`.

    **Arguments:** `init_value` at step 0; `end_value` from step `steps` on (0, as torch's);
    `power`: p, 1 as torch's.

    >>> [round(float(polynomial(1.0, 4, power=2.0)(t)), 6) for t in (0, 2, 4, 9)]
    [1.0, 0.25, 0.0, 0.0]
    """
    (length,) = check("polynomial", steps=steps)

    def value(t: jnp.ndarray) -> jnp.ndarray:
        rest = jnp.maximum(length - t, 0) / length
        return end_value + (init_value - end_value) * rest**power

    return Schedule(value)
