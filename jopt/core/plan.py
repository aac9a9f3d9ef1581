"""What a part knows of a layout before it sees an array: made once, and read at every update."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jopt.core.groups import Labels, key_of
from jopt.core.ownership import Deal
from jopt.core.paths import Path
from jopt.core.stack import Stack
from jopt.core.tree import Layout

KEPT = 16
"""So many plans a part remembers: one optimizer meets few models."""


@dataclass(frozen=True)
class Plan:
    """Which leaves a part moves, with whose numbers, and what it keeps for them.

    **Attributes:** `paths`, `names`: of all leaves; `labels`: the groups of each; `live`: the
    leaves that are not frozen; `members`: those by their groups; `holders`: those that have a
    slot, by its name; `stacks`: how leaves hold their tensors, where the part must know; `deals`:
    the stacks that some slots are in, by their leaves' groups and their class. `holders` are
    without these.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: tuple[Labels, ...]
    live: tuple[int, ...]
    members: Mapping[Labels, tuple[int, ...]]
    holders: Mapping[str, tuple[int, ...]]
    stacks: Mapping[int, Stack]
    deals: Mapping[str, Mapping[str, Deal]] = field(default_factory=dict)
    sets: Mapping[Labels, str] = field(default_factory=dict)

    def set_of(self, labels: Labels) -> str:
        """What the set is called that leaves of these groups are in."""
        return self.sets.get(labels) or key_of(labels)

    @functools.cached_property
    def slots_of(self) -> Mapping[int, frozenset[str]]:
        """The names of the slots that a leaf has of its own."""
        found: dict[int, set[str]] = {}
        for name, holders in self.holders.items():
            for i in holders:
                found.setdefault(i, set()).add(name)
        return {i: frozenset(names) for i, names in found.items()}

    def paths_of(self, leaves: Sequence[int]) -> list[Path]:
        """The paths of these leaves."""
        return [self.paths[i] for i in leaves]


def members_of(labels: Sequence[Labels], live: Sequence[int]) -> dict[Labels, tuple[int, ...]]:
    """The live leaves by their groups."""
    found: dict[Labels, list[int]] = {}
    for i in live:
        found.setdefault(labels[i], []).append(i)
    return {held: tuple(leaves) for held, leaves in found.items()}


def key_of_plan(layout: Layout, leaves: Sequence[Any]) -> Any:
    """What plans of one part are told apart by: paths, frozen leaves, shapes, dtypes."""
    shapes = tuple(None if x is None else (tuple(x.shape), x.dtype) for x in leaves)
    return layout.paths, layout.still, shapes
