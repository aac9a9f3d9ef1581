"""A factor at every step, or spread over several."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_traced, plain
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import check, check_range, power


@schedule
def exponential(
    init_value: float,
    gamma: float,
    *,
    steps: int = 1,
    staircase: bool = False,
    begin: int = 0,
    end_value: float | None = None,
) -> Schedule:
    """init·γ^((t − begin) / steps), as torch's `ExponentialLR` for the defaults.

    **Arguments:**

    - `steps`: over how many steps the value changes by the factor γ, at least 1.
    - `staircase`: whether it does so at once: the exponent is rounded down.
    - `begin`: steps at `init_value` before.
    - `end_value`: where it stops: the least value for γ < 1, else the largest.

    **Raises:** `ConfigError` for `steps` beyond 1 with a γ that is not above 0, which has no roots.

    >>> [round(float(exponential(1.0, 0.5)(t)), 6) for t in (0, 1, 3)]
    [1.0, 0.5, 0.125]
    >>> stairs = exponential(1.0, 0.5, steps=2, staircase=True, end_value=0.4)
    >>> [round(float(stairs(t)), 6) for t in (1, 2, 3, 9)]
    [1.0, 0.5, 0.5, 0.4]
    """
    (length,) = check("exponential", steps=steps)
    (start,) = check("exponential", 0, begin=begin)
    rate = plain(gamma)
    if isinstance(rate, int | float) and steps > 1 and not staircase and rate <= 0:
        raise ConfigError(
            "exponential", "gamma has no roots", expected="above 0 where steps > 1", found=rate
        )
    if end_value is not None:
        check_range("exponential", float("-inf"), float("inf"), end_value=end_value)
    falls = isinstance(rate, int | float) and rate < 1

    def value(t: Array) -> Array:
        past = jnp.maximum(t - start, 0)
        # The remainder is exact, where a quotient just below a whole number may round up to it.
        times = jnp.round((past - jnp.mod(past, length)) / length) if staircase else past / length
        found = init_value * power(gamma, times)
        if end_value is None:
            return found
        end = jnp.asarray(end_value if is_traced(end_value) else float(end_value), t.dtype)
        least, most = jnp.maximum(found, end), jnp.minimum(found, end)
        return least if falls else jnp.where(jnp.asarray(gamma) < 1, least, most)

    return Schedule(value)
