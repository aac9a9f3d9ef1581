"""Half a cosine down: once, again and again, or after a warm-up."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import MOST, between, check


@schedule
def cosine(init_value: float, steps: int, *, end_value: float = 0.0) -> Schedule:
    """end + (init − end)·(1 + cos(π·min(t / steps, 1))) / 2.

    It stays at `end_value` after `steps`; torch's `CosineAnnealingLR`, which is
    `cosine_annealing` here, rises again.

    Source: Loshchilov and Hutter, 2017, equation 5, one period.

    >>> [round(float(cosine(1.0, 4)(t)), 6) for t in (0, 2, 4, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """
    (length,) = check("cosine", steps=steps)
    return Schedule(lambda t: between(init_value, end_value, t, length, "cosine"))


@schedule
def cosine_annealing(init_value: float, steps: int, end_value: float = 0.0) -> Schedule:
    """end + (init − end)·(1 + cos(π·t / steps)) / 2, as torch's `CosineAnnealingLR`.

    `cosine` until `steps` (torch's T_max); then it rises, to be back at `init_value` at
    2·steps, and so on.

    >>> [round(float(cosine_annealing(1.0, 4)(t)), 6) for t in (0, 2, 4, 6, 8)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    (half,) = check("cosine_annealing", steps=steps)

    def value(t: Array) -> Array:
        above = jnp.abs(half - jnp.mod(t, 2 * half))  # distance to the nearest bottom
        return between(end_value, init_value, above, half, "cosine")

    return Schedule(value)


@schedule
def cosine_restarts(
    init_value: float, steps: int, multiplier: int = 1, end_value: float = 0.0
) -> Schedule:
    """A cosine down that starts anew, as torch's `CosineAnnealingWarmRestarts`.

    end + (init − end)·(1 + cos(π·s / Tᵢ)) / 2 with s the steps since the last restart, and
    Tᵢ = steps·multiplierⁱ the length of the period.

    **Arguments:** `steps`: T₀, the first period; `multiplier`: torch's T_mult, a whole number
    of at least 1; `end_value`: torch's eta_min, which the step before a restart comes near to.

    Source: Loshchilov and Hutter, 2017, equation 5.

    >>> [round(float(cosine_restarts(1.0, 2, multiplier=2)(t)), 6) for t in (0, 1, 2, 4, 6)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    first, factor = check("cosine_restarts", steps=steps, multiplier=multiplier)
    if multiplier == 1:
        return Schedule(
            lambda t: between(init_value, end_value, jnp.mod(t, first), first, "cosine")
        )
    starts, lengths = [0.0], [first]
    while starts[-1] < MOST:  # as far as steps go: 120 periods or fewer
        starts.append(starts[-1] + lengths[-1])
        lengths.append(min(lengths[-1] * factor, 2.0 * MOST))

    def value(t: Array) -> Array:
        begun = jnp.asarray(starts, t.dtype)
        period = jnp.searchsorted(begun, t, side="right") - 1
        length = jnp.asarray(lengths, t.dtype)[period]
        return between(init_value, end_value, t - begun[period], length, "cosine")

    return Schedule(value)


@schedule
def warmup_cosine(
    peak_value: float,
    warmup_steps: int,
    total_steps: int,
    *,
    init_value: float = 0.0,
    end_value: float = 0.0,
) -> Schedule:
    """A line from init to peak over warmup_steps, then a cosine to end at total_steps.

    **Arguments:** `init_value` at step 0 (0: the first step does not move; give it
    `peak_value / warmup_steps` for one that does); `peak_value` at step `warmup_steps` ≥ 0;
    `end_value` from step `total_steps` on, warm-up included.

    >>> [round(float(warmup_cosine(1.0, 2, 6)(t)), 6) for t in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    (rise,) = check("warmup_cosine", 0, warmup_steps=warmup_steps)
    check("warmup_cosine", total_steps=total_steps)
    if total_steps <= warmup_steps:
        raise ConfigError(
            "warmup_cosine",
            "the warm-up does not end before the schedule does",
            expected=f"total_steps > {warmup_steps}",
            found=total_steps,
        )
    length = float(total_steps - warmup_steps)

    def value(t: Array) -> Array:
        fall = between(peak_value, end_value, t - rise, length, "cosine")
        if rise == 0:
            return fall
        return jnp.where(t < rise, between(init_value, peak_value, t, rise), fall)

    return Schedule(value)


@schedule
def sgdr(
    peak_values: Sequence[float],
    cycle_steps: Sequence[int],
    *,
    warmup_steps: int = 0,
    init_value: float = 0.0,
    end_value: float = 0.0,
) -> Schedule:
    """Cycles of `warmup_cosine` one after another, each with a peak and a length of its own.

    The cosine of `cosine_restarts`, with warm-ups. After the last cycle it stays at `end_value`.

    **Arguments:** `peak_values` and `cycle_steps`: one of each for every cycle, whose steps are the
    warm-up's, too; `warmup_steps` ≥ 0, fewer than those; `init_value`, from which each cycle
    rises; `end_value`, to which each falls.

    **Raises:** `ConfigError` if there are not as many peaks as lengths, and where a cycle has no
    steps left behind its warm-up.

    Source: Loshchilov and Hutter, 2017, equation 5; the warm-ups are optax's.

    >>> rate = sgdr([1.0, 0.5], [3, 5], warmup_steps=1)
    >>> [round(float(rate(t)), 6) for t in (0, 1, 2, 3, 4, 6, 8)]
    [0.0, 1.0, 0.5, 0.0, 0.5, 0.25, 0.0]
    """
    for name, row in (("peak_values", peak_values), ("cycle_steps", cycle_steps)):
        if not isinstance(row, tuple) or not row:
            raise ConfigError("sgdr", f"{name} is no row", expected="a list", found=repr(row))
    if len(peak_values) != len(cycle_steps):
        raise ConfigError(
            "sgdr",
            "each cycle has a peak and a length",
            expected=f"{len(peak_values)} lengths",
            found=len(cycle_steps),
        )
    lengths = check("sgdr", **{f"cycle_steps[{i}]": n for i, n in enumerate(cycle_steps)})
    cycles = [
        warmup_cosine(peak, warmup_steps, n, init_value=init_value, end_value=end_value)
        for peak, n in zip(peak_values, cycle_steps, strict=True)
    ]

    def value(t: Array) -> Array:
        now, start = cycles[0](t), 0.0
        for length, cycle in zip(lengths, cycles[1:], strict=False):
            start += length
            now = jnp.where(t < start, now, cycle(t - start))
        return now

    return Schedule(value)
