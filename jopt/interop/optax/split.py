"""`split_real_and_imaginary`: what optax keeps of a complex parameter in two arrays, in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jopt.core.tree import Tree
from jopt.interop.optax.states import Contents, read

KIND = "SplitRealAndImaginaryArrays"
PARTS = ("real", "imaginary")


def joined(who: str, state: Tree) -> tuple[Tree, Contents]:
    """An optax state with complex arrays in the place of pairs of real ones, and what it holds."""
    whole = jax.tree.map(lambda x: _one(x) if _is_pair(x) else x, state, is_leaf=_is_pair)
    contents = read(who, whole)
    contents.split = any(map(_is_pair, jax.tree.leaves(state, is_leaf=_is_pair)))
    return whole, contents


def parted(filled: Tree, like: Tree) -> Tree:
    """The same undone, in the containers that `like` has for pairs."""
    return jax.tree.map(_two, like, filled, is_leaf=_is_pair)


def _is_pair(x: Any) -> bool:
    if type(x).__name__ == KIND:
        return True
    # A serializer gives back a dict, which no parameter's container looks like by chance.
    if not isinstance(x, Mapping) or set(x) != set(PARTS):
        return False
    real, imaginary = (x[part] for part in PARTS)
    shapes = [getattr(a, "shape", None) for a in (real, imaginary)]
    return shapes[0] is not None and shapes[0] == shapes[1]


def _one(pair: Any) -> Any:
    return jax.lax.complex(*(jnp.asarray(_part(pair, name)) for name in PARTS))


def _two(old: Any, new: Any) -> Any:
    if not _is_pair(old):
        return new
    parts = dict(zip(PARTS, (new.real, new.imag), strict=True))
    return type(old)(**parts) if hasattr(old, "_fields") else parts


def _part(pair: Any, name: str) -> Any:
    return pair[name] if isinstance(pair, Mapping) else getattr(pair, name)
