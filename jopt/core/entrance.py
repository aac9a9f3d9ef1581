"""What a loop around a transform checks before it is compiled: limits, a key, where it starts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, TreeError, plain
from jopt.core.checks import as_values
from jopt.core.tree import Tree, layout_of


def wrong(who: str, problem: str, expected: str, found: Any) -> ConfigError:
    """A `ConfigError` that shows what was given."""
    return ConfigError(who, problem, expected=expected, found=repr(found)[:100])


def limit(who: str, name: str, given: Any, dtype: Any) -> Array:
    """A number of at least 0 as an array; one past the integers of `dtype` is their largest."""
    value = plain(given)
    if isinstance(value, jax.core.Tracer):
        if value.shape != ():
            raise wrong(who, f"{name} is not a single number", "shape (); jax.vmap for more", given)
    else:
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


def arrays(who: str, what: str, tree: Tree) -> Tree:
    """The tree with arrays for leaves; `TreeError` for what is none. `what` is the argument."""
    layout = layout_of(who, tree)
    named = zip(layout.names, jax.tree.leaves(tree), strict=True)
    made = [as_values(who, f"{what}/{name}" if name else what, x) for name, x in named]
    return layout.treedef.unflatten(made)


def strong(tree: Tree) -> Tree:
    """The tree with dtypes that stay, as loops need; a Python number has one that gives way."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), tree)


def real_scalar(who: str, name: str, value: Array, expected: str | None = None) -> Array:
    """What a function of this name gave; `ConfigError` if it is no real scalar."""
    if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
        found = f"{value.dtype}{list(value.shape)}"
        problem = f"{name} does not give a real scalar"
        raise ConfigError(who, problem, expected=expected, found=found)
    return value


def start_point(who: str, x0: Tree) -> Tree:
    """The arrays to start from, `strong`; `TreeError` for what small steps cannot move."""
    layout = layout_of(who, x0)
    if not len(layout):
        raise TreeError(
            who,
            "x0 has no leaf to move",
            expected="an array or a tree of them",
            found=repr(x0)[:100],
        )
    named = zip(layout.names, jax.tree.leaves(x0), strict=True)
    leaves = [as_values(who, name, x) for name, x in named]
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
    return strong(layout.treedef.unflatten(leaves))
