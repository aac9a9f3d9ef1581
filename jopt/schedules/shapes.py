"""The curves that schedules are cut from, written so that both of their ends are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_one_of, number_of, plain, whole_number

Anneal = Literal["cosine", "linear"]
"""How a schedule goes from one value to the next."""


def between(a: Any, b: Any, t: Array, steps: Any, anneal: str = "linear") -> Array:
    """From a at t = 0 to b at t = steps, and flat outside.

    With x = t / steps: `"linear"` is a·(1 − x) + b·x, `"cosine"` is b + (a − b)·(1 + cos πx) / 2,
    `"1-sqrt"` is a + (b − a)·√x, `"sqrt"` is b + (a − b)·√(1 − x).
    """
    t = jnp.clip(t, 0, steps)
    # Two weights, each from its own end: one minus the other would lose the small one's digits.
    x, rest = t / steps, (steps - t) / steps
    match anneal:
        case "cosine":  # (1 − cos πx) / 2 = sin²(πx / 2)
            x, rest = jnp.sin(0.5 * jnp.pi * x) ** 2, jnp.sin(0.5 * jnp.pi * rest) ** 2
        case "1-sqrt":
            x = jnp.sqrt(x)
            rest = 1 - x
        case "sqrt":
            rest = jnp.sqrt(rest)
            x = 1 - rest
    return jnp.asarray(a * rest + b * x)


def power(base: Any, exponent: Array) -> Array:
    """baseⁿ for n = 0, 1, 2, ...

    As eⁿ ˡⁿ ᵇᵃˢᵉ with the logarithm taken in double precision: rounded to float32 the base alone
    would be off by a part in 10⁸, and its n-th power by n times that.
    """
    base = plain(base)
    if isinstance(base, int | float) and base > 0:
        return jnp.exp(exponent * math.log(base))
    return jnp.asarray(base**exponent)


MOST = 2**120
"""The largest count of steps: what is computed from it is still a float32."""


def check(who: str, least: int = 1, **numbers: Any) -> list[float]:
    """The counts of steps, as floats; `ConfigError` for one that is no whole number ≥ `least`.

    As floats, because jax takes an int for an int32, which ends at 2³¹. Beside a step in the dtype
    of the value they are the same numbers.
    """
    counts = [whole_number(who, name, given, least) for name, given in numbers.items()]
    for name, count in zip(numbers, counts, strict=True):
        if count > MOST:
            raise ConfigError(
                who, f"{name} is past what floats hold", expected="at most 2**120", found=count
            )
    return [float(count) for count in counts]


def check_row(who: str, steps: Any) -> None:
    """Raise `ConfigError` for no count of steps, or more than a row of numbers may have."""
    check(who, 0, steps=steps)
    if plain(steps) >= 2**31:
        raise ConfigError(
            who, "steps are too many for a number each", expected="below 2**31", found=steps
        )


def check_choice(who: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise `ConfigError` unless `value` is one of `choices`."""
    if not is_one_of(value, *choices):
        raise ConfigError(
            who,
            f"there is no such {name}",
            expected=" or ".join(map(repr, choices)),
            found=repr(value),
        )


def check_range(who: str, low: float, high: float, **numbers: Any) -> None:
    """Raise `ConfigError` for a known number outside of [low, high]."""
    for name, given in numbers.items():
        value = plain(given)
        if isinstance(value, jax.core.Tracer):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(who, f"{name} is not a number", found=repr(value))
        if not low <= value <= high:
            raise ConfigError(
                who, f"{name} is out of range", expected=f"[{low}, {high}]", found=repr(value)
            )


def as_function(who: str, given: Any) -> Callable[[Array], Array]:
    """A schedule, another library's function of the step, or a number, as one kind of function."""
    given = plain(given)
    stateful = callable(getattr(given, "update", None))
    if callable(given) and not stateful:
        return lambda t: number_of(who, "a schedule", given, t, dtype=t.dtype)
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if number and not math.isnan(given):
        return lambda t: jnp.full_like(t, float(given))
    raise ConfigError(
        who,
        "a schedule with a memory has no value at a step alone" if stateful else "no schedule",
        expected="a schedule, a function of the step, or a number",
        found=repr(given),
    )
