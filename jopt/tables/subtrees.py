"""The leaves of a tree in few rows: by subtree, as deep as there is room."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from jopt.core.paths import Path


@dataclass(frozen=True)
class Subtree:
    """The leaves from `start` to `stop` in the order of their paths; all begin with `path`."""

    path: Path
    start: int
    stop: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.stop - self.start


def subtrees(paths: Sequence[Path], most: int) -> list[Subtree]:
    """Subtrees, at most so many, that hold each of these sorted paths once.

    The largest is divided first, and one whose parts are too many is left whole.
    """
    done: list[Subtree] = []
    heap = [(-len(paths), 0, len(paths), 0)]  # the most leaves first
    while heap:
        _, start, stop, depth = heapq.heappop(heap)
        room = most - len(done) - len(heap)
        parts = _parts(paths, start, stop, depth, room)
        if parts:
            for begin, end in parts:
                heapq.heappush(heap, (begin - end, begin, end, depth + 1))
        else:
            done.append(Subtree(paths[start][:depth], start, stop))
    return sorted(done, key=lambda one: one.start)


def _parts(
    paths: Sequence[Path], start: int, stop: int, depth: int, most: int
) -> list[tuple[int, int]]:
    """Where the children of a subtree begin and end; none if it is a leaf, or they are too many."""
    if len(paths[start]) <= depth:
        return []
    parts: list[tuple[int, int]] = []
    inside = itertools.islice(paths, start, stop)
    for _, same in itertools.groupby(inside, key=lambda path: path[depth]):
        if len(parts) == most:
            return []
        begin = parts[-1][1] if parts else start
        parts.append((begin, begin + sum(1 for _ in same)))
    return parts
