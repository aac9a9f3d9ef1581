"""A factor every so many steps, or at chosen ones."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import check, power


@schedule
def step(init_value: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """init·γ^⌊t / step_size⌋, as torch's `StepLR` (whose default γ is 0.1).

    >>> [round(float(step(1.0, 2, gamma=0.5)(t)), 6) for t in (0, 1, 2, 4)]
    [1.0, 1.0, 0.5, 0.25]
    """
    (size,) = check("step", step_size=step_size)

    def value(t: Array) -> Array:
        # The remainder is exact, where a quotient just below a whole number may round up to it.
        return init_value * power(gamma, jnp.round((t - jnp.mod(t, size)) / size))

    return Schedule(value)


@schedule
def multistep(init_value: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """init·γ^(number of milestones ≤ t), as torch's `MultiStepLR` (default γ 0.1).

    A milestone given twice counts twice; their order does not matter. One at step 0 counts from
    the start.

    >>> [round(float(multistep(1.0, [2, 3], gamma=0.5)(t)), 6) for t in (1, 2, 3)]
    [1.0, 0.5, 0.25]
    """
    if not isinstance(milestones, tuple):
        raise ConfigError(
            "multistep",
            "milestones are steps in a row",
            expected="ints, such as [30, 80]",
            found=repr(milestones),
            fix="One factor serves them all: gamma=.",
        )
    marks = sorted(
        check("multistep", 0, **{f"milestones[{i}]": m for i, m in enumerate(milestones)})
    )

    def value(t: Array) -> Array:
        passed = jnp.searchsorted(jnp.asarray(marks, t.dtype), t, side="right")
        return init_value * power(gamma, passed.astype(t.dtype))

    return Schedule(value)
