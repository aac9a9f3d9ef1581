"""What the functions of this room are given, checked: a wrong argument is told by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import ConfigError, TreeError, as_row, plain
from jopt.core.tree import Tree, layout_of


def number(who: str, name: str, value: Any, *, finite: bool = True) -> Any:
    """A number as Python's own, of whatever library it was; a traced one as it is."""
    value = one(who, name, value)
    if isinstance(value, jax.Array) and value.ndim == 0 and jnp.issubdtype(value.dtype, np.number):
        return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(who, name, "a number", "an int or a float", value)
    if finite and not math.isfinite(value):
        raise wrong(who, name, "a finite number", "an int or a float", value)
    return value


def count(who: str, name: str, value: Any) -> int:
    """A whole number from 0 on that an int32 of a state holds."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise wrong(who, name, "a number of steps", "an int from 0 to 2³¹ - 1", value)
    return value


def flag(who: str, name: str, value: Any) -> bool:
    """A choice."""
    if not isinstance(value, bool):
        raise wrong(who, name, "a choice", "True or False", value)
    return value


def word(who: str, name: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise wrong(who, name, "a word", "a str", value)
    return value


def function(who: str, name: str, value: Any) -> Any:
    """A function, and no class."""
    if callable(value) and not isinstance(value, type):
        return value
    raise wrong(who, name, "a function", "a function of a number", value)


def row(who: str, name: str, value: Any) -> list[Any]:
    """A row of things."""
    found = as_row(value)
    if isinstance(found, list | tuple):
        return list(found)
    raise wrong(who, name, "a row of things", "a list or a tuple", value)


def known(who: str, kind: str, name: Any, names: Iterable[str]) -> None:
    """Raise `ConfigError` for a name that is none of these."""
    names = list(names)
    if not isinstance(name, str) or name not in names:
        problem = f"no {kind} of torch is called {name!r}"
        raise ConfigError(who, problem, expected=", ".join(names))


def words(who: str, name: str, value: Any) -> list[str]:
    """A list of names."""
    array = hasattr(value, "dtype") or isinstance(value, str | bytes)
    if isinstance(value, Iterable) and not array:
        rows = list(value)
        if all(isinstance(row, str) for row in rows):
            return rows
    raise wrong(who, name, "a list of names", "such as [n for n, _ in named_parameters()]", value)


def pattern(who: str, name: str, value: Any) -> re.Pattern[str]:
    """A regular expression."""
    if isinstance(value, str | re.Pattern):
        try:
            return re.compile(value)
        except (re.error, TypeError) as error:
            raise wrong(who, name, f"a regular expression: {error}", "a str", value) from None
    raise wrong(who, name, "a regular expression", "a str", value)


def table(who: str, name: str, value: Any, expected: str) -> Mapping[str, Any]:
    """A dict by names."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return value
    raise wrong(who, name, "a dict by names", expected, value)


def parameters(who: str, params: Tree) -> list[Any]:
    """The leaves of a tree of parameters, each an array, or what has its shape and dtype."""
    names = layout_of(who, params).names
    leaves = jax.tree.leaves(params)
    for name, leaf in zip(names, leaves, strict=True):
        if not hasattr(leaf, "shape") or not _is_numeric(getattr(leaf, "dtype", None)):
            raise TreeError(
                who,
                "this is no array of jax's or NumPy's",
                path=name,
                expected="the parameters of the jax model, or their jax.eval_shape",
                found=shown(leaf),
            )
    return leaves


def _is_numeric(dtype: Any) -> bool:
    """Whether this is a dtype of jax's or NumPy's that numbers have; torch's are none."""
    if dtype is None:  # float64 to NumPy
        return False
    try:
        return jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)
    except TypeError:
        return False


def one(who: str, name: str, value: Any) -> Any:
    """A tensor or an array that stands for one number, as that number."""
    if not hasattr(value, "detach"):
        return plain(value)
    if value.numel() != 1:
        raise ConfigError(
            who,
            f"{name} is a tensor with more than one element",
            expected="a number, or a tensor with one element",
            found=f"a tensor of shape {tuple(value.shape)}",
        )
    return value.item()


def wrong(who: str, name: str, kind: str, expected: str, value: Any) -> ConfigError:
    """The error of an argument that is of another kind."""
    return ConfigError(who, f"{name} is {kind}", expected=expected, found=shown(value))


def shown(value: Any) -> str:
    """A value in a line of an error."""
    text = repr(value)
    return text if len(text) < 200 and "\n" not in text else f"a {type(value).__name__}"
