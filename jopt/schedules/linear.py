"""A straight line, then flat."""

from __future__ import annotations

import jax.numpy as jnp

from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import between, check


@schedule
def linear(init_value: float, end_value: float, steps: int) -> Schedule:
    """init + (end − init)·min(t / steps, 1), as torch's `LinearLR`.

    Torch's start_factor, end_factor and base rate η are `linear(η·start, η·end, total_iters)`.

    **Arguments:** `init_value` at step 0; `end_value` from step `steps` on. With 0 steps it is
    `end_value` from the start (torch stays at the start for ever).

    >>> [round(float(linear(0.0, 1.0, 4)(t)), 6) for t in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    (length,) = check("linear", 0, steps=steps)
    if steps == 0:
        return Schedule(lambda t: jnp.full_like(t, end_value))
    return Schedule(lambda t: between(init_value, end_value, t, length))
