"""What a schedule is: a pure function of the step that remembers how it was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.base import NO_ARRAY, ConfigError, Configured, configured, number_of
from jopt.numerics import number_dtype


class Schedule(Configured):
    """A function of the step, from 0, giving a hyperparameter's value.

    Schedules hold no state: the value depends on the step alone, so a restored run goes on
    where it stopped. They print, compare, hash and pickle as the call that made them, and take
    a Python number or an array of steps.

    A step below 0 counts as 0. Steps are counted in the dtype of the value: float32 knows every
    whole number up to 2²⁴ = 16 777 216, beyond it every second one, beyond 2²⁵ every fourth. A
    curve changes by less than its rounding over such a gap, and an edge moves by a step or two;
    under x64 all steps are exact.
    """

    def __init__(self, function: Callable[[Array], Any]) -> None:
        if not callable(function):
            raise ConfigError(
                "schedule",
                "this is no function",
                expected="a function of the step",
                found=repr(function)[:100],
            )
        self._function = function

    def __call__(self, step: Any) -> Array:
        """The value at `step`, in float32, or float64 when x64 is enabled."""
        who = "schedule" if self._call is None else self._call.name
        t = jnp.maximum(_as_step(who, step), 0)
        return number_of(who, "the schedule", self._function, t, dtype=t.dtype)


def _as_step(who: str, step: Any) -> Array:
    """The step in the dtype of numbers; counts of the host may be past what int32 holds."""
    dtype = number_dtype()
    try:
        if isinstance(step, int) and not isinstance(step, bool):
            return jnp.asarray(float(step), dtype)
        if isinstance(step, float | np.generic | np.ndarray | list | tuple):
            held = np.asarray(step)
            if held.dtype.kind in "iufO":
                return jnp.asarray(held.astype(dtype))
        elif not isinstance(step, bool):
            t = jnp.asarray(step)
            if jnp.issubdtype(t.dtype, jnp.floating) or jnp.issubdtype(t.dtype, jnp.integer):
                return t.astype(dtype)
    except NO_ARRAY:
        pass  # told below
    raise ConfigError(
        who, "this is no step", expected="a number, or an array of them", found=repr(step)[:100]
    )


schedule = configured("jopt.schedules.")
