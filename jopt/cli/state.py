"""What the names of the leaves tell: which are nodes of a state, which parameters, which numbers.

Everything is read from names and kinds, so that it serves any tree that a state stands in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jopt.checkpoint.leaves import DTYPES, Kind
from jopt.core.given import KINDS
from jopt.core.paths import Path

NUMBERS = (
    "hyperparams",
    "times",
    "given",
    "schedules",
    "count",
    "leaf_count",
    "leaf_micro",
    "metrics",
    "monitored",
)
"""The entries of a node that are no slots."""


@dataclass(frozen=True)
class Number:
    """A hyperparameter in the file: its node, its group, its name, and where the value stands.

    It may be a factor, which multiplies what the leaf would otherwise have.
    """

    node: Path
    group: str
    name: str
    path: Path
    scheduled: bool
    factor: bool = False


def numbers(kinds: Mapping[Path, Kind]) -> list[Number]:
    """Every hyperparameter, `default` first within its node."""
    found: list[Number] = []
    for path, kind in kinds.items():
        if kind.shape is None:
            continue
        if len(path) > 2 and path[-3] in KINDS:
            factor = path[-3] == "times"
            found.append(Number(path[:-3], path[-2], path[-1], path, False, factor))
        elif len(path) > 3 and path[-4] == "schedules" and path[-1] == "value":
            found.append(Number(path[:-4], path[-3], path[-2], path, True))
    return sorted(found, key=lambda n: (n.node, n.group != "default", n.group, n.name))


def counts(kinds: Mapping[Path, Kind]) -> list[Path]:
    """Where the step counts of the nodes stand."""
    return [p for p, k in kinds.items() if p and p[-1] == "count" and _is_count(k)]


def nodes(kinds: Mapping[Path, Kind]) -> set[Path]:
    """Every node: what has hyperparameters or a step count, and the wrappers of such."""
    found = {n.node for n in numbers(kinds)} | {p[:-1] for p in counts(kinds)}
    wrappers = {n[:i] for n in found for i, key in enumerate(n) if key == "inner" and i}
    return found | wrappers


@dataclass
class Share:
    """How much of the file one part of the tree takes."""

    entries: int = 0
    bytes: int = 0

    def add(self, kind: Kind) -> None:
        """Take in one leaf."""
        self.entries += math.prod(kind.shape) if kind.shape is not None else 0
        self.bytes += size_of(kind)

    def plain(self) -> dict[str, int]:
        """As JSON has it."""
        return {"entries": self.entries, "bytes": self.bytes}


def shares(kinds: Mapping[Path, Kind]) -> tuple[Share, dict[tuple[Path, str], Share], Share]:
    """The parameters, every slot by its node and name, and the rest.

    Parameters are the arrays under `params`, at the top, if there is such a key; else all
    floating arrays outside of the state.
    """
    inside = nodes(kinds)
    depths = sorted({len(node) for node in inside}, reverse=True)
    named = any(path[:1] == ("params",) for path in kinds)
    params, slots, rest = Share(), dict[tuple[Path, str], Share](), Share()
    for path, kind in kinds.items():
        node = next((path[:i] for i in depths if i < len(path) and path[:i] in inside), None)
        if named and path[0] == "params":
            params.add(kind)
        elif node is not None:
            slot = path[len(node)]
            slots.setdefault((node, "numbers" if slot in NUMBERS else slot), Share()).add(kind)
        elif not named and kind.shape is not None and _floating(kind):
            params.add(kind)
        else:
            rest.add(kind)
    return params, slots, rest


def size_of(kind: Kind) -> int:
    """The bytes of a leaf's numbers."""
    return 0 if kind.shape is None else math.prod(kind.shape) * DTYPES[kind.dtype].itemsize


def _is_count(kind: Kind) -> bool:
    return kind.shape == () and kind.dtype in ("int32", "int64")


def _floating(kind: Kind) -> bool:
    return "float" in kind.dtype or "complex" in kind.dtype
