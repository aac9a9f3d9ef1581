"""The counts of leaves that are younger than others: what they are says more than `like` can."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Any

from jopt.checkpoint.leaves import Kind, children, flatten, is_leaf, kind_of
from jopt.core.nested import nest
from jopt.core.paths import Path
from jopt.core.tree import Tree

LEAF_COUNTS = {"count": "leaf_count", "micro": "leaf_micro"}
"""The counts of a node, and the entries for leaves that count on their own."""

ENTRIES = frozenset(LEAF_COUNTS.values())


def with_counts_of(
    who: str,
    like: Tree,
    targets: Iterable[Path],
    kinds: Mapping[Path, Kind],
    keep: AbstractSet[Path],
) -> Tree:
    """`like` with the counts of single leaves that the state has, and no others but those to keep.

    A leaf without an entry has the node's own count, so their absence is a value, too. `targets`
    are the leaves of `like`.
    """
    if all(ENTRIES.isdisjoint(chain.from_iterable(paths)) for paths in (kinds, targets)):
        return like
    younger = [path for path in kinds if not ENTRIES.isdisjoint(path)]

    def walk(node: Tree, path: Path) -> Tree:
        if is_leaf(node):
            return node
        names, kids, make = children(who, node)
        if not names:
            return node
        whole = node
        if type(node) is dict:
            for count, entry in LEAF_COUNTS.items():
                if _counts(node, count) and kinds.get((*path, count)) == kind_of(node[count]):
                    node = with_own(node, count, (*path, entry))
            names, kids, make = (names, kids, make) if node is whole else children(who, node)
        new = [walk(kid, (*path, name)) for name, kid in zip(names, kids, strict=True)]
        return node if all(map(operator.is_, new, kids)) else make(new)

    def with_own(node: dict[Any, Any], count: str, own: Path) -> dict[Any, Any]:
        """A node with the counts of its leaves as the state has them."""
        entry = own[-1]
        aged = {p[len(own) :]: node[count] for p in younger if _below(p, own)}
        if entry in node:
            mine = flatten(who, node[entry])
            aged |= {p: x for p, x in mine.items() if (*own, *p) in keep}
        elif not aged:
            return node
        rest = {k: v for k, v in node.items() if k != entry}
        return (
            {**rest, entry: nest(sorted(aged), [aged[p] for p in sorted(aged)])} if aged else rest
        )

    return walk(like, ())


def _below(path: Path, top: Path) -> bool:
    return len(path) > len(top) and path[: len(top)] == top


def _counts(node: dict[Any, Any], count: str) -> bool:
    kind = kind_of(node.get(count))
    return isinstance(kind, Kind) and kind.shape is not None and kind.dtype.startswith("int")
