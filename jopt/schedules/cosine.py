"""Half a cosine down, with or without a warm-up before it."""

from __future__ import annotations

import jax.numpy as jnp

from jopt.base import ConfigError
from jopt.schedules.schedule import Schedule, check, schedule


@schedule
def cosine(init_value: float, steps: int, end_value: float = 0.0) -> Schedule:
    """end + (init − end)·(1 + cos(π·min(t / steps, 1))) / 2.

    It stays at `end_value` after `steps`; torch's `CosineAnnealingLR` would rise again.

    Source: Loshchilov and Hutter, 2017, equation 5, one period.

    >>> [round(float(cosine(1.0, 4)(t)), 6) for t in (0, 2, 4, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """
    check("cosine", steps=steps)
    return Schedule(
        lambda t: (
            end_value
            + (init_value - end_value) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(t / steps, 1.0)))
        )
    )


@schedule
def warmup_cosine(
    peak_value: float,
    warmup_steps: int,
    total_steps: int,
    init_value: float = 0.0,
    end_value: float = 0.0,
) -> Schedule:
    """A line from init to peak over warmup_steps, then a cosine to end at total_steps.

    **Arguments:** `init_value` at step 0 (0: the first step does not move; give it
    `peak_value / warmup_steps` for one that does); `peak_value` at step `warmup_steps`;
    `end_value` from step `total_steps` on, warm-up included.

    >>> [round(float(warmup_cosine(1.0, 2, 6)(t)), 6) for t in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    check("warmup_cosine", warmup_steps=warmup_steps, total_steps=total_steps)
    if total_steps <= warmup_steps:
        raise ConfigError(
            "warmup_cosine",
            "the warm-up does not end before the schedule does",
            expected=f"total_steps > {warmup_steps}",
            found=total_steps,
        )
    fall = cosine(peak_value, total_steps - warmup_steps, end_value)
    return Schedule(
        lambda t: jnp.where(
            t < warmup_steps,
            init_value + (peak_value - init_value) * t / warmup_steps,
            fall(t - warmup_steps),
        )
    )
