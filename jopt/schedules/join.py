"""Schedules put together: one after another, or multiplied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import as_function, check


@schedule
def join(schedules: Sequence[Callable[[Any], Any]], boundaries: Sequence[int]) -> Schedule:
    """The i-th schedule from boundary i on, its own step counted from there.

    This is torch's `SequentialLR`: each schedule starts from its own first value, not from what
    the one before has reached. Unlike torch's it nests.

    **Arguments:** `schedules`, one more than `boundaries`, schedules, functions of the step or
    numbers; `boundaries`, rising steps at which the next one starts from its step 0.

    **Raises:** `ConfigError` if the numbers of schedules and boundaries do not fit, if boundaries
    do not rise, or for a schedule with a memory.

    >>> both = join([lambda t: 0.1 * t, lambda t: 5.0 - t], [3])
    >>> [round(float(both(t)), 6) for t in (0, 2, 3, 5)]
    [0.0, 0.2, 5.0, 3.0]
    """
    for name, row in (("schedules", schedules), ("boundaries", boundaries)):
        if not isinstance(row, tuple):
            raise ConfigError("join", f"{name} is no row", expected="a list", found=repr(row))
    parts, starts = [as_function("join", s) for s in schedules], boundaries
    if len(parts) != len(starts) + 1:
        expected = f"{len(parts) - 1} boundaries for {len(parts)} schedules"
        raise ConfigError(
            "join",
            "schedules and boundaries do not fit",
            expected=expected if parts else "at least one schedule",
            found=len(starts),
        )
    edges = check("join", 0, **{f"boundaries[{i}]": b for i, b in enumerate(starts)})
    if list(starts) != sorted(set(starts)):
        raise ConfigError("join", "boundaries must rise", found=starts)

    def value(t: Array) -> Array:
        now = parts[0](t)
        for part, start in zip(parts[1:], edges, strict=True):
            now = jnp.where(t < start, now, part(jnp.maximum(t - start, 0)))
        return now

    return Schedule(value)


@schedule
def product(*schedules: Any) -> Schedule:
    """The product of schedules, functions of the step and numbers, at every step.

    Schedulers of torch that act on one optimizer, in a `ChainedScheduler` or one after another,
    multiply their factors: give one of them the base rate, and the others the value 1.

    **Raises:** `ConfigError` for no schedule, or one with a memory.

    >>> from jopt.schedules import linear, step
    >>> both = product(step(0.1, 10, gamma=0.5), linear(0.0, 1.0, 4))
    >>> [round(float(both(t)), 6) for t in (0, 2, 4, 10)]
    [0.0, 0.05, 0.1, 0.05]
    """
    parts = [as_function("product", s) for s in schedules]
    if not parts:
        raise ConfigError("product", "there is nothing to multiply")

    def value(t: Array) -> Array:
        now = parts[0](t)
        for part in parts[1:]:
            now = now * part(t)
        return now

    return Schedule(value)
