"""A factor at every step."""

from __future__ import annotations

from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import power


@schedule
def exponential(init_value: float, gamma: float) -> Schedule:
    """init·γᵗ, as torch's `ExponentialLR`.

    >>> [round(float(exponential(1.0, 0.5)(t)), 6) for t in (0, 1, 3)]
    [1.0, 0.5, 0.125]
    """
    return Schedule(lambda t: init_value * power(gamma, t))
