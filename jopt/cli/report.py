"""What `jopt inspect` tells of a file, as data: leaf by leaf, or by subtree if they are many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jopt.checkpoint.leaves import Kind
from jopt.cli import state
from jopt.cli.sources import Source, chosen
from jopt.cli.stats import Joint, Stats
from jopt.core.paths import Path, shown
from jopt.tables.subtrees import Subtree, subtrees
from jopt.tables.text import SCREEN, plain

MANY = 64
"""Entries of a hyperparameter that are still shown: a state under `vmap` has several."""

STATS = ("mean", "abs_max", "nans", "infs")
SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "path": lambda leaf: 0,  # as they stand
    "bytes": lambda leaf: -leaf["bytes"],
    "abs_max": lambda leaf: -(leaf.get("abs_max") or 0.0),
    "nans": lambda leaf: (-(leaf.get("nans") or 0), -(leaf.get("infs") or 0)),
}


def describe(
    source: Source,
    match: Any = None,
    *,
    stats: bool = True,
    whole: bool = True,
    sort: str = "path",
) -> dict[str, Any]:
    """The report that `--json` prints; without `whole`, subtrees in place of many leaves."""
    kinds = source.kinds
    (picked,) = chosen("jopt inspect", match, source)
    found, ticks = state.numbers(kinds), state.counts(kinds)
    small = {n.path for n in found} | set(ticks)
    values: dict[Path, Any] = {}
    paths = [path for path in kinds if path in picked]
    whole = whole or len(paths) <= SCREEN
    parts = [] if whole else subtrees(paths, SCREEN)
    known: dict[Path, Stats | Joint] = {}
    if stats and whole:
        known = {p: Stats() for p in paths if kinds[p].shape is not None}
    elif stats:
        known = {
            p: one for part in parts for one in [Joint()] for p in paths[part.start : part.stop]
        }
    for path, piece in source.scan(None if stats else small.__contains__):
        if path in small and piece.size <= MANY:
            values[path] = plain(piece, kinds[path].shape)
        if path in known:
            known[path].add(piece)
    if whole:
        rows: Iterable[dict[str, Any]] = Leaves(source, paths, known, sort)
    else:
        rows = sorted((_subtree(kinds, paths, x, known) for x in parts), key=SORTS[sort])
    younger = [path for path in kinds if "leaf_count" in path]
    return {
        "file": source.name,
        "format": source.format,
        "version": source.version,
        "size": source.size,
        "transform": source.transform,
        "leaves": rows,
        "hyperparams": [
            {
                "node": shown(n.node),
                "group": n.group,
                "name": n.name,
                "value": values.get(n.path),
                "scheduled": n.scheduled,
                "factor": n.factor,
            }
            for n in found
        ],
        "counts": [
            {
                "node": shown(p[:-1]),
                "count": values.get(p),
                "leaf_counts": _under(younger, (*p[:-1], "leaf_count")),
            }
            for p in ticks
        ],
        "totals": _totals(kinds),
    }


class Leaves(Iterable[dict[str, Any]]):
    """What is told of each leaf, made when it is needed: a file may have hundred thousands."""

    def __init__(
        self, source: Source, paths: list[Path], known: Mapping[Path, Any], sort: str
    ) -> None:
        self._source, self._paths, self._known = source, paths, known
        if sort != "path":
            self._paths = sorted(paths, key=lambda path: SORTS[sort](self._leaf(path)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._leaf, self._paths)

    def _leaf(self, path: Path) -> dict[str, Any]:
        return _leaf(self._source, path, self._known.get(path))


def _leaf(source: Source, path: Path, stats: Stats | None) -> dict[str, Any]:
    kind = source.kinds[path]
    shape = None if kind.shape is None else list(kind.shape)
    leaf = {
        "path": shown(path),
        "shape": shape,
        "dtype": kind.dtype,
        "bytes": state.size_of(kind),
    }
    if shape is None:
        leaf["value"] = source.values[path]
    elif stats is not None:
        leaf |= stats.plain()
    return leaf


def _subtree(
    kinds: Mapping[Path, Kind], paths: list[Path], part: Subtree, known: Mapping[Path, Any]
) -> dict[str, Any]:
    inside = paths[part.start : part.stop]
    share = state.Share()
    for path in inside:
        share.add(kinds[path])
    dtypes = sorted({kinds[path].dtype for path in inside})
    joint = known.get(inside[0])
    return {
        "path": shown(part.path),
        "leaves": part.count,
        "dtype": dtypes[0] if len(dtypes) == 1 else f"{len(dtypes)} dtypes",
        **share.plain(),
        **(joint.plain() if joint is not None else {}),
    }


def _under(paths: list[Path], prefix: Path) -> int:
    return sum(path[: len(prefix)] == prefix for path in paths)


def _totals(kinds: Mapping[Path, Kind]) -> dict[str, Any]:
    params, slots, rest = state.shares(kinds)
    whole = state.Share()
    for kind in kinds.values():
        whole.add(kind)
    held = sum(share.bytes for share in slots.values())
    return {
        "leaves": len(kinds),
        "params": params.plain(),
        "slots": [
            {"node": shown(node), "slot": slot, **share.plain()}
            for (node, slot), share in slots.items()
        ],
        "other": rest.plain(),
        "total": whole.plain(),
        "state_bytes": held,
        "state_bytes_per_param": held / params.entries if params.entries else None,
    }
