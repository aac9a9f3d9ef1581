"""What a loop around a transform checks before it is compiled: limits, a key, where it starts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, TreeError, plain
from jopt.core.checks import as_array
from jopt.core.tree import Tree, layout_of


def wrong(who: str, problem: str, expected: str, found: Any) -> ConfigError:
    """A `ConfigError` that shows what was given."""
    return ConfigError(who, problem, expected=expected, found=repr(found)[:100])


def limit(who: str, name: str, given: Any, dtype: Any) -> Array:
    """A number of at least 0 as an array; one past the integers of `dtype` is their largest."""
    value = plain(given)
    if not isinstance(value, jax.core.Tracer):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(who, f"{name} is not a number", "a number in [0, inf)", given)
        if not value >= 0:
            raise ConfigError(who, f"{name} is below 0", expected="[0, inf)", found=value)
        whole = jnp.issubdtype(dtype, jnp.integer)
        value = min(value, jnp.iinfo(dtype).max) if whole else float(value)
    return jnp.asarray(value, dtype)


def check_key(who: str, key: Any) -> None:
    """Raise `ConfigError` for something else than a random key or `None`."""
    dtype = getattr(key, "dtype", int)
    if not (key is None or dtype == jnp.uint32 or jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        raise wrong(who, "key= is no random key", "jax.random.key(seed)", key)


def check_arrays(who: str, what: str, tree: Tree) -> None:
    """Raise `TreeError` for a leaf that is no array; `what` is the argument that it is in."""
    for name, x in zip(layout_of(who, tree).names, jax.tree.leaves(tree), strict=True):
        as_array(who, f"{what}/{name}" if name else what, x)


def start_point(who: str, x0: Tree) -> Tree:
    """The arrays to start from; `TreeError` for what small steps cannot move."""
    layout = layout_of(who, x0)
    if not len(layout):
        raise TreeError(
            who,
            "x0 has no leaf to move",
            expected="an array or a tree of them",
            found=repr(x0)[:100],
        )
    named = zip(layout.names, jax.tree.leaves(x0), strict=True)
    leaves = [as_array(who, name, x) for name, x in named]
    for name, x in zip(layout.names, leaves, strict=True):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            raise TreeError(
                who,
                "a leaf of x0 cannot be moved by small steps",
                path=name,
                expected="a floating or complex dtype",
                found=x.dtype,
                fix="Give it to fun through args, or as a float.",
            )
    return layout.treedef.unflatten(leaves)
