"""What a schedule is: a pure function of the step that remembers how it was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, Configured, configured
from jopt.numerics import number_dtype


class Schedule(Configured):
    """A function of the step, from 0, giving a hyperparameter's value.

    Schedules hold no state: the value depends on the step alone, so a restored run goes on
    where it stopped. They print, compare, hash and pickle as the call that made them, and take
    a Python number or an array of steps.
    """

    def __init__(self, function: Callable[[Array], Any]) -> None:
        self._function = function

    def __call__(self, step: Any) -> Array:
        """The value at `step`, in float32, or float64 when x64 is enabled."""
        dtype = number_dtype()
        return jnp.asarray(self._function(jnp.asarray(step).astype(dtype)), dtype)


schedule = configured("jopt.schedules.")


def check(who: str, **numbers: Any) -> None:
    """Raise `ConfigError` for a count of steps that is not a whole number of at least one."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(
                who,
                f"{name} is a number of steps",
                expected="an int of at least 1",
                found=repr(value),
            )
