"""What version 1 kept otherwise of rounds of `accumulate`, and of leaves that are frozen.

It had shares of a mean where there are sums now, and sums and averages of frozen leaves, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from jopt.checkpoint.manifest import Manifest
from jopt.core.paths import Path

MEAN, SUM, AVERAGE, MICRO = "mean", "sum", "average", "micro"


def rounds_of_version_1(old: Manifest) -> Manifest:
    """The manifest with sums in the place of means.

    A mean was of shares, each gradient divided by the length of the round, so it takes that
    length to make it a sum. Where nothing says it, the file can be read only if it stands at the
    beginning of a round, where no sum counts.
    """
    config = (old.transform or {}).get("config", {})
    nodes = {p[:-1] for p in old.leaves if p[-1:] == (MICRO,)}
    found = {p: n for p in old.leaves if (n := _around(p, MEAN, nodes)) is not None}

    def name(path: Path) -> Path:
        node = found.get(path)
        return path if node is None else (*node, SUM, *path[len(node) + 1 :])

    factors, lost = dict(old.factors), set(old.at_zero)
    for path, node in found.items():
        every = _every(config, node)
        if every is None:
            lost.add((*node, MICRO))
        else:
            factors[name(path)] = every
    return replace(old.renamed(name), factors=factors, at_zero=frozenset(lost))


def without_frozen(old: Manifest, like: Iterable[Path]) -> Manifest:
    """The manifest without the sums and averages of leaves that have none in `like`."""
    wanted = set(like)
    begun = {path[:n] for path in wanted for n in range(len(path) + 1)}
    nodes = {p[:-1] for p in old.leaves if p[-1:] == (MICRO,)}

    def spare(path: Path) -> bool:
        node = _around(path, SUM, nodes)
        tops = [] if node is None else [(*node, SUM)]
        tops += [path[: n + 1] for n, key in enumerate(path[:-1]) if key == AVERAGE]
        return path not in wanted and any(top in begun for top in tops)

    spared = {path for path in old.leaves if spare(path)}
    return old.renamed(lambda path: None if path in spared else path) if spared else old


def _around(path: Path, entry: str, nodes: Iterable[Path]) -> Path | None:
    """The node of a round in whose `entry` a leaf stands."""
    ends = [n for n, key in enumerate(path) if key == entry]
    return next((path[:n] for n in reversed(ends) if path[:n] in nodes), None)


def _every(config: Any, node: Path) -> int | None:
    """The length of the rounds of a node; the state may stand within a larger tree."""
    for start in range(len(node)):
        labels, between = node[start::2], node[start + 1 :: 2]
        part: Any = {"inner": config}
        for label in labels:
            inner = part.get("inner") if isinstance(part, Mapping) else None
            part = inner.get(label) if isinstance(inner, Mapping) else None
        if set(between) <= {"inner"} and isinstance(part, Mapping):
            choices = part.get("choices")
            every = choices.get("every") if isinstance(choices, Mapping) else None
            if part.get("transform") == "accumulate" and type(every) is int and every > 0:
                return every
    return None
