"""A factor every so many steps, or at chosen ones."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from jopt.schedules.schedule import Schedule, check, schedule


@schedule
def step(init_value: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """init·γ^⌊t / step_size⌋, as torch's `StepLR` (whose default γ is 0.1).

    >>> [round(float(step(1.0, 2, gamma=0.5)(t)), 6) for t in (0, 1, 2, 4)]
    [1.0, 1.0, 0.5, 0.25]
    """
    check("step", step_size=step_size)
    return Schedule(lambda t: init_value * gamma ** jnp.floor(t / step_size))


@schedule
def multistep(init_value: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """init·γ^(number of milestones ≤ t), as torch's `MultiStepLR` (default γ 0.1).

    A milestone given twice counts twice.

    >>> [round(float(multistep(1.0, [2, 3], gamma=0.5)(t)), 6) for t in (1, 2, 3)]
    [1.0, 0.5, 0.25]
    """
    passed = tuple(milestones)
    return Schedule(lambda t: init_value * gamma ** sum((t >= m).astype(t.dtype) for m in passed))
