"""Functions of the user's: jax may trace them, and Python may not take them with our arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base.errors import ConfigError, JoptError

NO_ARRAY = (TypeError, ValueError, OverflowError, NotImplementedError, Warning)
"""What jax raises where it should make an array of something that is none."""


CHOOSE = "Choose with jnp.where, or with jax.lax.cond."


def called(who: str, what: str, function: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
    """`function(*args, **named)`; a `ConfigError` if it takes other arguments, or branches on them.

    Of functions within functions the outermost is named, which the user knows by its place.
    """
    try:
        return function(*args, **named)
    except (TypeError, ConfigError) as error:
        told = _told(who, what, function, len(args), tuple(named), error)
        if told is None:
            raise
        raise told from error


def _told(
    who: str,
    what: str,
    function: Callable[..., Any],
    n: int,
    names: tuple[str, ...],
    error: Exception,
) -> ConfigError | None:
    """What to say of an error in a function of the user's; `None` where it speaks for itself."""
    told = isinstance(error, ConfigError) and error.fix == CHOOSE
    if told or isinstance(error, jax.errors.ConcretizationTypeError):
        return ConfigError(
            who,
            f"{what} branches in Python on a number that jax traces",
            expected="a function that jax can trace: no `if`, `while`, float() or int() on it",
            found=error.found if isinstance(error, ConfigError) else repr(function)[:200],
            fix=CHOOSE,
        )
    if isinstance(error, JoptError) or takes(function, n, *names):
        return None
    return ConfigError(
        who,
        f"{what} takes other arguments than it is called with",
        expected=f"a function of {n} argument{'s' * (n > 1)}"
        + (f", and of {', '.join(names)} by name" if names else ""),
        found=f"{repr(function)[:100]}, which takes {inspect.signature(function)}",
    )


def number_of(
    who: str, what: str, function: Callable[..., Any], *args: Any, dtype: Any = None
) -> Array:
    """What a function of the user's gives, as an array; a `ConfigError` where it is no number."""
    given = called(who, what, function, *args)
    try:
        if dtype is not None and type(given) in (int, float):  # of any size
            return jnp.asarray(float(given), dtype)
        number = jnp.asarray(given)
        if not jnp.issubdtype(number.dtype, jnp.complexfloating):
            return number if dtype is None else number.astype(dtype)
        found = f"{number.dtype} of shape {number.shape}"
    except NO_ARRAY as error:
        found = f"{given!r}"[:100] + f": {error}"[:100]
    raise ConfigError(
        who, f"{what} gives no number", expected="a function that returns a number", found=found
    )


def takes(function: Callable[..., Any], n: int, *names: str) -> bool:
    """Whether a function can be called with `n` arguments and these by name, as far as it tells."""
    try:
        inspect.signature(function).bind(*(None,) * n, **dict.fromkeys(names))
    except TypeError:
        return False
    except ValueError:  # some of C's functions do not tell
        return True
    return True
