"""Warming up: before any schedule, before an inverse root, and before a long plain."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_traced
from jopt.numerics import rectification
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import as_function, between, check, check_choice, check_range


@schedule
def warmup(schedule: Any, steps: int, *, init_value: float = 0.0) -> Schedule:
    """A line from init_value to the schedule's first value over `steps`, then the schedule.

    The schedule's own step 0 is step `steps`; its length adds to that of the warm-up.

    **Arguments:** `schedule`: a schedule, a function of the step, or a number; `steps` ≥ 0;
    `init_value` at step 0 (0: the first step does not move).

    **Raises:** `ConfigError` for a schedule with a memory, such as `plateau`.

    >>> from jopt.schedules import cosine
    >>> [round(float(warmup(cosine(1.0, 4), 2)(t)), 6) for t in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    (length,) = check("warmup", 0, steps=steps)
    after = as_function("warmup", schedule)
    if steps == 0:
        return Schedule(after)

    def value(t: Array) -> Array:
        peak = after(jnp.zeros_like(t))
        rise = between(init_value, peak, t, length)
        return jnp.where(t < length, rise, after(jnp.maximum(t - length, 0)))

    return Schedule(value)


@schedule
def warmup_constant(peak_value: float, warmup_steps: int, *, init_value: float = 0.0) -> Schedule:
    """A line from init to peak over warmup_steps, then the peak.

    **Arguments:** `init_value` at step 0; `peak_value` from step `warmup_steps` ≥ 0 on.

    >>> [round(float(warmup_constant(1.0, 2)(t)), 6) for t in (0, 1, 2, 9)]
    [0.0, 0.5, 1.0, 1.0]
    """
    (length,) = check("warmup_constant", 0, warmup_steps=warmup_steps)
    if warmup_steps == 0:
        return Schedule(as_function("warmup_constant", peak_value))
    return Schedule(lambda t: between(init_value, peak_value, t, length))


@schedule
def inverse_sqrt(
    peak_value: float, warmup_steps: int, *, init_value: float = 0.0, timescale: int | None = None
) -> Schedule:
    """A line to peak over w = warmup_steps, then peak·√(s / (s + t − w)).

    With s = w, the default, this is peak·√(w / t). It has no last step: train on as you like.

    **Arguments:** `peak_value` at step `warmup_steps`; `warmup_steps` ≥ 1; `init_value` at step
    0; `timescale`: s ≥ 1: the value is peak / √2 after s steps more, and peak / 2 after 3·s.

    Source: Vaswani et al., 2017, section 5.3 (s = w); Zhai et al., 2022, section 3.5 (s).

    >>> [round(float(inverse_sqrt(1.0, 4)(t)), 6) for t in (0, 2, 4, 16)]
    [0.0, 0.5, 1.0, 0.5]
    """
    given = warmup_steps if timescale is None else timescale
    begin, scale = check("inverse_sqrt", warmup_steps=warmup_steps, timescale=given)

    def value(t: Array) -> Array:
        past = jnp.maximum(t - begin, 0)
        fall = peak_value * jnp.sqrt(scale / (scale + past))
        return jnp.where(t < begin, between(init_value, peak_value, t, begin), fall)

    return Schedule(value)


@schedule
def wsd(
    peak_value: float,
    warmup_steps: int,
    stable_steps: int,
    decay_steps: int,
    *,
    init_value: float = 0.0,
    end_value: float = 0.0,
    anneal: Literal["linear", "cosine", "1-sqrt", "sqrt"] = "linear",
    cycles: int = 1,
) -> Schedule:
    """Warm-up, stable, decay: up over warmup_steps, flat for stable_steps, down over decay_steps.

    Nothing before the decay depends on when it comes: a run may be prolonged, or branched off
    with a decay, from any checkpoint of the stable part.

    **Arguments:** `warmup_steps` ≥ 0, `stable_steps` ≥ 0, `decay_steps` ≥ 1; `init_value` at step
    0; `end_value` from the last step on; `anneal`: the decay, with x the part of it that is done:
    `"linear"`, `"cosine"`, `"1-sqrt"`: peak + (end − peak)·√x, which falls fast at first, or
    `"sqrt"`: end + (peak − end)·√(1 − x), which falls fast at last; `cycles`: how often the stable
    part and the decay come, each time from the peak at once, so that there is a decayed checkpoint
    at the end of each.

    Source: Hu et al., 2024 (MiniCPM), section 4; Hägele et al., 2024, for linear and 1-sqrt; Wen
    et al., 2024 (WSD-S), for cycles.

    >>> [round(float(wsd(1.0, 2, 4, 2)(t)), 6) for t in (0, 1, 2, 6, 7, 8)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise, stable = check("wsd", 0, warmup_steps=warmup_steps, stable_steps=stable_steps)
    (length,) = check("wsd", decay_steps=decay_steps)
    check_choice("wsd", "anneal", anneal, ("linear", "cosine", "1-sqrt", "sqrt"))
    (turns,) = check("wsd", cycles=cycles)
    period = stable + length

    def value(t: Array) -> Array:
        past = t - rise
        if turns > 1:
            # The last one does not begin again.
            done = jnp.minimum(jnp.floor_divide(jnp.maximum(past, 0), period), turns - 1)
            past = past - done * period
        fall = between(peak_value, end_value, past - stable, length, anneal)
        if rise == 0:
            return fall
        return jnp.where(t < rise, between(init_value, peak_value, t, rise), fall)

    return Schedule(value)


@schedule
def rectified(schedule: Any, *, b2: float = 0.999) -> Schedule:
    """RAdam's rectification times the schedule: a warm-up that β₂ decides, with nothing to tune.

    At step t from 0 it is rₜ₊₁ times the schedule, 0 while ρₜ₊₁ ≤ 4 (the first four steps at
    β₂ = 0.999); see `jopt.radam`. With it `jopt.adamw` is RAdam that rests in its first steps.

    **Arguments:** `schedule`: a schedule, a function of the step, or a number; `b2` in [0, 1).

    Source: Liu et al., 2020, algorithm 2.

    >>> [round(float(rectified(1.0)(t)), 3) for t in (0, 3, 9, 99, 9999)]
    [0.0, 0.0, 0.049, 0.215, 1.0]
    """
    after = as_function("rectified", schedule)
    check_range("rectified", 0.0, 1.0, b2=b2)
    if not is_traced(b2) and b2 == 1:
        raise ConfigError("rectified", "b2 is out of range", expected="[0, 1)", found=repr(b2))

    def value(t: Array) -> Array:
        there, r = rectification(jnp.asarray(b2, t.dtype), t + 1, 4)
        return jnp.where(there, r * after(t), 0)

    return Schedule(value)
