"""How many steps a node, and each of its leaves, has lived through.

One counter serves every leaf. A leaf that has lived through fewer steps (it sat out, having
no gradient, or joined later) has a counter of its own in `leaf_count`, at its path. Most
states have no such leaf and no such entry.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.tree import Path, flatten_dict, nest


def ticked(count: Array) -> Array:
    """One more step, up to the largest int32: a run never ends in a negative step."""
    return jnp.where(count < jnp.iinfo(jnp.int32).max, count + 1, count)


class Counts:
    """The counters of one node before an update, and what they are after it."""

    def __init__(self, node: dict[str, Any]) -> None:
        self._count: Array = node.get("count", jnp.int32(0))
        own = node.get("leaf_count")
        self._own: dict[Path, Array] = {} if own is None else flatten_dict(own)

    def age(self, path: Path) -> Path | None:
        """Equal for leaves that surely have lived through the same steps."""
        return path if path in self._own else None

    def t(self, path: Path) -> Array:
        """The number of the step about to be taken by this leaf, from 1."""
        return ticked(self._own.get(path, self._count))

    def after(self, idle: Iterable[Path]) -> dict[str, Any]:
        """The `leaf_count` entry after a step that the `idle` leaves sat out, if there is one."""
        idle = set(idle)
        own = {p: c if p in idle else ticked(c) for p, c in self._own.items()}
        own |= {p: self._count for p in idle if p not in own}
        return {"leaf_count": nest(own, own.values())} if own else {}

    def joined(self, paths: Iterable[Path], live: Container[Path]) -> dict[str, Any]:
        """The `leaf_count` entry once these leaves have joined, and only `live` ones are left."""
        own = {p: count for p, count in self._own.items() if p in live}
        own |= {p: jnp.int32(0) for p in paths}
        return {"leaf_count": nest(own, own.values())} if own else {}
