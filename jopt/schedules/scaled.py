"""A function of your own: as a factor, as a running product, or as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.base import ConfigError, called, plain
from jopt.numerics import number_dtype
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import check_row


@schedule
def scaled(
    init_value: float, function: Callable[[Any], Any], *, steps: int | None = None
) -> Schedule:
    """init·f(t), as torch's `LambdaLR`.

    **Arguments:**

    - `function`: f. Without `steps` jax traces it: it gets the step as a scalar array in the
      dtype of the value (or as many as are asked for at once) and must not branch on it.
    - `steps`: make a table of f(0), ..., f(steps) now, and stay at the last. Then f may be any
      function of a Python int.

    **Raises:** `ConfigError` for a function that jax cannot trace, without `steps`.

    >>> [round(float(scaled(1.0, lambda t: 0.5 ** t)(t)), 6) for t in (0, 1, 3)]
    [1.0, 0.5, 0.125]
    >>> [float(scaled(1.0, lambda t: 2 if t < 2 else 1, steps=2)(t)) for t in (0, 1, 2, 9)]
    [2.0, 2.0, 1.0, 1.0]
    """
    if steps is not None:
        check_row("scaled", steps)
        factor = _known("scaled", function)
        return _looked_up([init_value * factor(t) for t in range(steps + 1)])
    check_traceable("scaled", "function", function, fix=TABLE)
    return Schedule(lambda t: init_value * jnp.asarray(function(t)).astype(t.dtype))


@schedule
def multiplicative(
    init_value: float, function: Callable[[Any], Any], *, steps: int | None = None
) -> Schedule:
    """init·f(1)·f(2)·...·f(t), as torch's `MultiplicativeLR`.

    **Arguments:**

    - `function`: f. Without `steps` jax traces it, and each value costs a loop over t factors,
      whose rounding adds up in float32: right for a few thousand steps.
    - `steps`: multiply in double precision now, for f(1), ..., f(steps), and stay at the last:
      a value costs one look-up. Then f may be any function of a Python int.

    **Raises:** `ConfigError` for a function that jax cannot trace, without `steps`.

    >>> [float(multiplicative(1.0, lambda t: 0.5)(t)) for t in (0, 1, 3)]
    [1.0, 0.5, 0.125]
    >>> [float(multiplicative(1.0, lambda t: 0.5, steps=2)(t)) for t in (0, 1, 3)]
    [1.0, 0.5, 0.25]
    """
    if steps is not None:
        check_row("multiplicative", steps)
        values, factor = [init_value], _known("multiplicative", function)
        for t in range(1, steps + 1):
            values.append(values[-1] * factor(t))
        return _looked_up(values)
    check_traceable("multiplicative", "function", function, fix=TABLE)

    def value(t: Array) -> Array:
        def body(k: Array, now: Array) -> Array:
            factor = jnp.asarray(function(k.astype(t.dtype))).astype(t.dtype)
            return jnp.where(k <= t.astype(k.dtype), now * factor, now)

        last = jnp.max(t).astype(jnp.int32)
        start = jnp.full_like(t, init_value)
        return jnp.asarray(jax.lax.fori_loop(jnp.int32(1), last + 1, body, start))

    return Schedule(value)


@schedule
def table(values: Sequence[float]) -> Schedule:
    """values[t], and the last of them from there on.

    **Raises:** `ConfigError` for no values, or something else than numbers in a row.

    >>> [float(table([1.0, 0.5])(t)) for t in (0, 1, 7)]
    [1.0, 0.5, 0.5]
    """
    return _looked_up(values)


def _known(who: str, function: Any) -> Callable[[int], float]:
    """`function` as one from Python's numbers to Python's numbers."""
    if not callable(function):
        raise ConfigError(
            who, "function is no function", expected="a function of the step", found=repr(function)
        )

    def factor(t: int) -> float:
        given = plain(called(who, "function", function, t))
        if isinstance(given, int | float):
            return float(given)
        raise ConfigError(
            who,
            "function gives no number",
            expected="a number at every step",
            found=f"{given!r} at step {t}"[:100],
        )

    return factor


TABLE = "Give steps=: a table of that many values is then made with Python numbers."


def check_traceable(
    who: str, name: str, function: Any, fix: str = "Write it with jax.numpy."
) -> None:
    """Raise `ConfigError` unless `function` maps a traced step to a number."""
    if not callable(function):
        raise ConfigError(
            who, f"{name} is no function", expected="a function of the step", found=repr(function)
        )
    try:
        step = jax.ShapeDtypeStruct((), number_dtype())
        out = jax.eval_shape(lambda t: jnp.asarray(function(t)), step)
    except Exception as error:  # whatever a function of the user's raises
        raise ConfigError(
            who,
            f"jax cannot trace {name}: {type(error).__name__}",
            expected="a function of an array, without branches on its value",
            fix=fix,
        ) from error
    if out.shape != ():
        raise ConfigError(who, f"{name} gives no number", found=f"shape {out.shape}")


def _looked_up(values: Sequence[float]) -> Schedule:
    numbers = isinstance(values, tuple | list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and not math.isnan(x)
        for x in map(plain, values)
    )
    row = np.asarray(values, np.float64) if numbers else np.empty(())
    if row.ndim != 1 or not row.size:
        given = [*values] if isinstance(values, tuple) else values
        raise ConfigError("table", "a table is a row of numbers", found=repr(given))

    def value(t: Array) -> Array:
        last = jnp.minimum(t, row.size - 1).astype(jnp.int32)
        return jnp.asarray(row, t.dtype)[last]

    return Schedule(value)
