"""How many steps a node, and each of its leaves, has lived through.

One counter serves every leaf. A leaf that may live through fewer steps has a counter of its own
in `leaf_count`, at its path: one that `skips=` names, because it may have no gradient, and one
that joined later. Most states have no such leaf and no such entry. An update never adds one: it
would change the structure of the state.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, GroupError, TreeError, checked
from jopt.core.checks import as_values
from jopt.core.match import Match, picked, settled_match
from jopt.core.nested import flatten_dict, nest
from jopt.core.paths import Path
from jopt.core.tree import Layout

Skips = bool | Match | None
"""Which leaves may have no gradient at some steps: all, or those that this selects."""


def ticked(count: Array) -> Array:
    """One more step, up to the largest int32: a run never ends in a negative step."""
    return jnp.where(count < jnp.iinfo(jnp.int32).max, count + 1, count)


@checked
def safe_increment(count: Any) -> Array:
    """count + 1, up to the largest number of its dtype: it stays there and never wraps around.

    So do all counts that jopt keeps.

    **Arguments:** `count`: a whole number, or an array of them.

    >>> import jax.numpy as jnp, jopt
    >>> jopt.safe_increment(jnp.array([3, 2147483647]))
    Array([         4, 2147483647], dtype=int32)
    """
    given = as_values("safe_increment", "count", count)
    number = jnp.asarray(given)
    if not jnp.issubdtype(number.dtype, jnp.integer):
        raise ConfigError(
            "safe_increment",
            "a count is a whole number",
            expected="an int, or an array of an integer dtype",
            found=f"{number.dtype} of shape {number.shape}",
        )
    most = jnp.asarray(jnp.iinfo(number.dtype).max, number.dtype)
    return jnp.where(number < most, number + 1, number)


def check_skips(who: str, skips: Skips) -> Skips:
    """`skips`, or a `ConfigError` if it selects no leaves."""
    return skips if isinstance(skips, bool | None) else settled_match(who, "skips=", skips)


def skipping(
    who: str, skips: Skips, layout: Layout, leaves: Sequence[Any], live: Sequence[int]
) -> list[Path]:
    """The paths of the live leaves that `skips` names."""
    if skips is None or skips is False:
        return []

    names = [layout.names[i] for i in live]
    shapes = [jax.ShapeDtypeStruct(tuple(leaves[i].shape), leaves[i].dtype) for i in live]
    named = [True] * len(live) if skips is True else picked(who, skips, names, shapes)
    found = [layout.paths[i] for i, has in zip(live, named, strict=True) if has]
    if live and not found:
        raise GroupError(
            who,
            "skips= matches no leaf",
            expected=f"True, or a leaf that {skips!r} matches",
            found=", ".join(layout.names[i] for i in live[:8]),
        )
    return found


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
        return _entry(own)

    def check_idle(self, who: str, layout: Layout, idle: Iterable[int]) -> None:
        """Raise `TreeError` if a leaf sits out that has no counter of its own."""
        for i in idle:
            if layout.paths[i] not in self._own:
                raise TreeError(
                    who,
                    "a gradient is None, and this leaf has no step count of its own",
                    path=layout.names[i],
                    fix="Build it with skips=True, or with a pattern for the leaves that may have "
                    "none.\n  A state gets their counts by jopt.extend(tx, state, params).",
                )

    def grown(
        self, joined: Iterable[Path], skipping: Iterable[Path], live: Container[Path]
    ) -> dict[str, Any]:
        """The `leaf_count` entry once leaves have joined, others may sit out, and some are gone."""
        own = {p: jnp.array(self._count, copy=True) for p in skipping}
        own |= {p: count for p, count in self._own.items() if p in live}
        return _entry({**own, **{p: jnp.int32(0) for p in joined}})


def _entry(own: dict[Path, Any]) -> dict[str, Any]:
    return {"leaf_count": nest(own, own.values())} if own else {}
