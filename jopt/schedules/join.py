"""One schedule after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from jopt.base import ConfigError
from jopt.schedules.schedule import Schedule, schedule


@schedule
def join(schedules: Sequence[Callable[[Any], Any]], boundaries: Sequence[int]) -> Schedule:
    """The i-th schedule from boundary i on, its own step counted from there.

    **Arguments:** `schedules`, one more than `boundaries`; `boundaries`, rising steps at which
    the next one starts from its step 0.

    >>> both = join([lambda t: 0.1 * t, lambda t: 5.0 - t], [3])
    >>> [round(float(both(t)), 6) for t in (0, 2, 3, 5)]
    [0.0, 0.2, 5.0, 3.0]
    """
    parts, starts = tuple(schedules), tuple(boundaries)
    if len(parts) != len(starts) + 1:
        raise ConfigError(
            "join",
            "schedules and boundaries do not fit",
            expected=f"{len(parts) - 1} boundaries for {len(parts)} schedules",
            found=len(starts),
        )
    if list(starts) != sorted(set(starts)):
        raise ConfigError("join", "boundaries must rise", found=starts)

    def value(t: Any) -> Any:
        now = parts[0](t)
        for part, start in zip(parts[1:], starts, strict=True):
            now = jnp.where(t < start, now, part(t - start))
        return now

    return Schedule(value)
