"""The counts of leaves that are younger than others: what they are says more than `like` can."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from jopt.checkpoint.leaves import Kind, children, flatten, is_leaf, kind_of
from jopt.core.tree import Path, Tree, nest


def with_counts_of(
    who: str, like: Tree, kinds: Mapping[Path, Kind], keep: AbstractSet[Path]
) -> Tree:
    """`like` with the `leaf_count` entries that the state has, and no others but those to keep.

    A leaf without an entry has the node's own count, so their absence is a value, too.
    """
    younger = [path for path in kinds if "leaf_count" in path]

    def walk(node: Tree, path: Path) -> Tree:
        if is_leaf(node):
            return node
        names, kids, make = children(who, node)
        if not names:
            return node
        same = True
        if (
            type(node) is dict
            and _counts(node)
            and kinds.get((*path, "count")) == kind_of(node["count"])
        ):
            own = (*path, "leaf_count")
            aged = {p[len(own) :]: node["count"] for p in younger if _below(p, own)}
            if "leaf_count" in node:
                mine = flatten(who, node["leaf_count"])
                aged |= {p: x for p, x in mine.items() if (*own, *p) in keep}
            if aged or "leaf_count" in node:
                node = {k: v for k, v in node.items() if k != "leaf_count"}
                if aged:
                    node["leaf_count"] = nest(sorted(aged), [aged[p] for p in sorted(aged)])
                names, kids, make = children(who, node)
                same = False
        new = [walk(kid, (*path, name)) for name, kid in zip(names, kids, strict=True)]
        return node if same and all(map(operator.is_, new, kids)) else make(new)

    return walk(like, ())


def _below(path: Path, top: Path) -> bool:
    return len(path) > len(top) and path[: len(top)] == top


def _counts(node: dict[Any, Any]) -> bool:
    kind = kind_of(node.get("count"))
    return isinstance(kind, Kind) and kind.shape is not None and kind.dtype.startswith("int")
