"""From value to value at chosen steps: at once, or along the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import as_function, between, check, check_choice, check_range


@schedule
def piecewise(
    init_value: float,
    boundaries: Sequence[int],
    values: Sequence[float],
    *,
    anneal: Literal["linear", "cosine", "constant"] = "linear",
) -> Schedule:
    """values[i] at step boundaries[i], from `init_value` at step 0; the last one stays.

    **Arguments:** `boundaries`: rising steps of at least 1; `values`: as many numbers; `anneal`:
    how it goes from one to the next: `"linear"`, along half a `"cosine"`, or `"constant"`: not
    before the boundary, and then at once.

    **Raises:** `ConfigError` if the numbers of boundaries and values do not fit, or boundaries do
    not rise.

    >>> [round(float(piecewise(1.0, [2, 4], [0.5, 0.1])(t)), 6) for t in (0, 1, 2, 3, 4, 9)]
    [1.0, 0.75, 0.5, 0.3, 0.1, 0.1]
    """
    for name, row in (("boundaries", boundaries), ("values", values)):
        if not isinstance(row, tuple):
            raise ConfigError("piecewise", f"{name} is no row", expected="a list", found=repr(row))
    check_choice("piecewise", "anneal", anneal, ("linear", "cosine", "constant"))
    marks = check("piecewise", **{f"boundaries[{i}]": b for i, b in enumerate(boundaries)})
    any_number = float("-inf"), float("inf")
    check_range("piecewise", *any_number, **{f"values[{i}]": v for i, v in enumerate(values)})
    if len(marks) != len(values) or marks != sorted({*marks}):
        raise ConfigError(
            "piecewise",
            "values are those at rising boundaries, one for each",
            expected="as many values as boundaries",
            found=f"boundaries {boundaries}, {len(values)} values",
        )

    def value(t: Array) -> Array:
        now, start, held = jnp.full_like(t, init_value), 0.0, init_value
        for mark, after in zip(marks, values, strict=True):
            if anneal != "constant":
                way = between(held, after, t - start, mark - start, anneal)
                now = jnp.where(t < start, now, way)
            now = jnp.where(t < mark, now, after)
            start, held = mark, after
        return now

    return Schedule(value)


@schedule
def stretched(schedule: object, steps: int, total_steps: int) -> Schedule:
    """A schedule of `steps` steps, drawn out or together to `total_steps`: f(t·steps / total).

    So that a schedule may be given in parts of a run: as if a run had 100 steps, or 1000, whatever
    its length will be. Where it bends or jumps between two steps, it does.

    **Arguments:** `schedule`: a schedule, a function of the step, or a number; `steps`: the length
    that it was made for; `total_steps`: that of the run.

    **Raises:** `ConfigError` for a schedule with a memory, such as `plateau`.

    >>> from jopt.schedules import wsd
    >>> percent = wsd(1.0, warmup_steps=10, stable_steps=70, decay_steps=20)
    >>> rate = stretched(percent, 100, total_steps=5_000)
    >>> [round(float(rate(t)), 6) for t in (250, 500, 4_000, 4_500, 5_000)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    given = as_function("stretched", schedule)
    length, total = check("stretched", steps=steps, total_steps=total_steps)

    def value(t: Array) -> Array:
        # Whole steps by remainders, which are exact: an edge that falls on one stays there.
        within = jnp.mod(t, total)
        over = jnp.mod(within * length, total)
        runs, whole = (t - within) / total, (within * length - over) / total
        return given(jnp.round(runs) * length + jnp.round(whole) + over / total)

    return Schedule(value)
