"""A state beside the tree that it is to fill: names, exceptions, casts, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from jopt.base import CheckpointError, as_row
from jopt.checkpoint.compare import Difference, compare
from jopt.checkpoint.leaf_counts import with_counts_of
from jopt.checkpoint.leaves import Kind, flatten, kinds_of
from jopt.checkpoint.names import matched, renamed
from jopt.checkpoint.placing import castable
from jopt.core.given import KINDS
from jopt.core.paths import Path
from jopt.core.tree import Tree

Keep = str | re.Pattern[str] | Iterable[str | re.Pattern[str]] | None
"""Patterns of paths: what they select stays as `like=` has it."""
Rename = Mapping[str, str] | None


@dataclass(frozen=True)
class Changes:
    """What a user allows beside an exact fit; see `jopt.load_state_dict`."""

    rename: Rename = None
    keep: Keep = None
    cast: bool = False

    def __post_init__(self) -> None:
        keep = as_row(self.keep)
        each = keep if isinstance(keep, tuple) else (keep,)
        if keep is not None and not all(isinstance(x, str | re.Pattern) for x in each):
            raise CheckpointError(
                "keep=",
                "it names leaves by patterns",
                expected="a regular expression, or several in a row",
                found=repr(self.keep)[:100],
            )
        object.__setattr__(self, "keep", keep)


@dataclass(frozen=True)
class Fit:
    """A state beside `like`: `names`, each leaf's old and new path, and what is different."""

    like: Tree
    targets: Mapping[Path, Any]
    wanted: Mapping[Path, Kind]
    state: Mapping[Path, Kind]
    names: Mapping[Path, Path]
    keep: AbstractSet[Path]
    casts: list[Difference]
    found: list[Difference]

    @property
    def takes(self) -> set[Path]:
        """The paths in `like` that get a value from the state."""
        if not self.keep and self.wanted == self.state:
            return set(self.wanted)
        cast = {d.path for d in self.casts}
        return {
            path
            for path, kind in self.wanted.items()
            if path not in self.keep and (path in cast or self.state.get(path) == kind)
        }


def fitted(who: str, like: Tree, kinds: Mapping[Path, Kind], changes: Changes) -> Fit:
    """A state of these kinds beside `like`, the changes applied."""
    names = renamed(who, kinds, changes.rename)
    state = {new: kinds[old] for old, new in names.items()} if changes.rename else kinds
    targets = flatten(who, like)
    keep = matched(who, changes.keep, targets, state)
    taken = {p: k for p, k in state.items() if p not in keep} if keep else state
    counted = with_counts_of(who, like, targets, taken, keep)
    if counted is not like:
        like, targets = counted, flatten(who, counted)
    wanted = kinds_of(who, targets, "`like` has leaves that no checkpoint holds")
    found = _without_given([*compare(wanted, state)])
    found = [d for d in found if d.path not in keep]
    casts: list[Difference] = []
    rest: list[Difference] = []
    for d in found:
        (casts if changes.cast and is_cast(d, wanted, state) else rest).append(d)
    return Fit(like, targets, wanted, state, names, keep, casts, rest)


def _without_given(found: list[Difference]) -> list[Difference]:
    """The differences without those of `given`, where they follow from numbers told by name."""
    nodes = {d.path[:-3] for d in found if len(d.path) > 2 and d.path[-3] in KINDS}
    return [
        d
        for d in found
        if d.path[-1:] != ("given",) or d.problem == "dtype" or d.path[:-1] not in nodes
    ]


def is_cast(d: Difference, wanted: Mapping[Path, Kind], state: Mapping[Path, Kind]) -> bool:
    """Whether a cast would settle this difference."""
    return d.problem == "dtype" and castable(wanted[d.path], state[d.path])
