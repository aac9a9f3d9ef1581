"""What selects leaves: a pattern that is searched in their names, a predicate, a tree of bools."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jopt.base import ConfigError, GroupError, takes
from jopt.core.paths import shown
from jopt.core.tree import layout_of, structure_of


class Picker(abc.ABC):
    """A choice of leaves that looks at all of them at once; it may refuse them."""

    @abc.abstractmethod
    def pick(self, who: str, names: Sequence[str], leaves: Sequence[Any]) -> Sequence[bool]:
        """For each leaf whether it is chosen."""


Predicate = Callable[[str, jax.ShapeDtypeStruct], bool] | Callable[[str], bool]
"""Yes or no to a leaf, from its path, or from that and its shape and dtype."""
Match = str | re.Pattern[str] | Predicate | Picker | Mapping[str, Any]
"""Which leaves: a pattern for their paths, a predicate, or a tree of bools; see `jopt.group`."""

TREE = "A tree of labels is one of bools for each: jax.tree.map(lambda x: x == 'name', labels)."


class Mask(Picker):
    """The leaves at which a tree of bools is true; one bool may stand for all that is below it."""

    def __init__(self, tree: Any) -> None:
        layout = layout_of("mask", tree)
        self.bools: dict[tuple[str, ...], bool] = dict(
            zip(layout.paths, map(bool, jax.tree.leaves(tree)), strict=True)
        )

    def pick(self, who: str, names: Sequence[str], leaves: Sequence[Any]) -> Sequence[bool]:
        """See `Picker`; a mask may speak of leaves that are not here, as inside of a route."""
        told = {shown(path): value for path, value in self.bools.items()}
        return [self._of(who, told, name) for name in names]

    def _of(self, who: str, told: Mapping[str, bool], name: str) -> bool:
        keys = name.split("/")
        for n in range(len(keys), 0, -1):
            above = "/".join(keys[:n])
            if above in told:
                return told[above]
        raise GroupError(
            who,
            "the mask says nothing about a leaf",
            path=name,
            expected="a tree of bools like the parameters'",
            found=", ".join([*told][:8]),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.bools == other.bools

    def __hash__(self) -> int:
        return hash(frozenset(self.bools.items()))

    def __repr__(self) -> str:
        return f"<mask of {sum(self.bools.values())} in {len(self.bools)}>"


def settled_match(who: str, what: str, match: Any) -> Any:
    """What selects leaves, a tree of bools as a `Mask`; `ConfigError` for what selects none.

    **Arguments:** `what`: the argument that it was.
    """
    if isinstance(match, str):
        try:
            re.compile(match)
        except re.error as error:
            raise ConfigError(who, f"{match!r} is no regular expression: {error}") from None
        return match
    if isinstance(match, re.Pattern | Picker) or (callable(match) and _takes(match)):
        return match
    if not callable(match):
        structure_of(who, match)
    leaves = [] if callable(match) else jax.tree.leaves(match)
    whole = len(leaves) == 1 and leaves[0] is match
    if leaves and not whole and all(isinstance(x, bool | np.bool_) for x in leaves):
        return Mask(match)
    labels = leaves and not whole and all(isinstance(x, str) for x in leaves)
    raise ConfigError(
        who,
        f"{what} selects leaves",
        expected="a regular expression, a predicate of (path, leaf) or path, or a tree of bools",
        found=repr(match)[:200],
        fix=TREE if labels else None,
    )


def _takes(match: Callable[..., Any]) -> int:
    """How many of path and leaf a predicate takes; 0 where it takes something else."""
    return next((n for n in (2, 1) if takes(match, n)), 0)


def holds(match: Match, name: str, leaf: jax.ShapeDtypeStruct) -> bool:
    """Whether `match` selects the leaf called `name`."""
    return picked("", match, [name], [leaf])[0]


def picked(who: str, match: Any, names: Sequence[str], leaves: Sequence[Any]) -> Sequence[bool]:
    """For each of these leaves whether `match` selects it; `who` asks."""
    if isinstance(match, Picker):
        return match.pick(who, names, leaves)
    if isinstance(match, str | re.Pattern):
        return [re.search(match, name) is not None for name in names]
    if _takes(match) == 1:
        return [_answer(who, match, name) for name in names]
    return [_answer(who, match, *pair) for pair in zip(names, leaves, strict=True)]


def _answer(who: str, match: Callable[..., Any], *args: Any) -> bool:
    """Yes or no of a predicate: a search gives a match or `None`, for which its truth stands."""
    given = match(*args)
    try:
        return bool(given)
    except (TypeError, ValueError):
        raise ConfigError(
            who,
            "a predicate gives neither yes nor no",
            expected="True or False",
            found=repr(given)[:100],
        ) from None
