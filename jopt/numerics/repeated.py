"""The same for many arrays, told jax in few equations: tracing and lowering take as long as these.

What XLA compiles is the same, for it puts the body of a call where the call is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax

MOST = 8
"""At most so many are one call. A larger one saves hardly anything more, and is longer to trace."""
FEW = 16
"""Fewer than so many of a kind are lowered as fast alone: a function of eight is eight to lower."""

Each = Callable[[Any, Any], Any]
"""`f(row, common)`: of a row of arrays, and of what it has in common with others."""


def traced(x: Any) -> bool:
    """Whether any of these arrays is in a trace; outside nothing can be put in order."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(x))


def in_batches(
    f: Each,
    rows: Sequence[Any],
    kinds: Sequence[Hashable],
    common: Sequence[Any] | None = None,
    alone: Each | None = None,
) -> list[Any]:
    """`f(row, common)` for each of these rows of arrays.

    In a trace, rows of one kind, which are of the same shapes, are calls of a function that is
    traced once, each of rows with one and the same `common`. A few are computed alone, by `alone`
    if that is given, as are all outside: there a call of other numbers of arrays would be another
    program to compile. What `f` calls should be inlined into it, or XLA has to put calls in their
    place twice.
    """
    alone = alone or f
    shared = [None] * len(rows) if common is None else common
    if not traced((rows, shared)):
        return [alone(row, of) for row, of in zip(rows, shared, strict=True)]

    @jax.jit
    def batch(rows: list[Any], common: Any) -> list[Any]:
        return [f(row, common) for row in rows]

    found = dict[int, Any]()
    for some, few in _batches(kinds, [*map(id, shared)]):
        of, mine = shared[some[0]], [rows[i] for i in some]
        done = [alone(row, of) for row in mine] if few else batch(mine, of)
        found |= zip(some, done, strict=True)
    return [found[i] for i in range(len(rows))]


def of_batches(
    f: Callable[[Any], Any], rows: Sequence[Any], kinds: Sequence[Hashable]
) -> list[Any]:
    """`f` of a list of some of these rows of arrays, for all of them, by the same batches.

    For what can be said of several rows at once, such as a barrier, which then is one equation.
    """
    if not traced(rows):
        return [f([row]) for row in rows]
    batch = jax.jit(f)
    of = [([rows[i] for i in some], few) for some, few in _batches(kinds, [0] * len(rows))]
    return [f(mine) if few else batch(mine) for mine, few in of]


def _batches(
    kinds: Sequence[Hashable], common: Sequence[int]
) -> Iterator[tuple[Sequence[int], bool]]:
    """Which rows are told together, of one kind and with the same in common; and whether alone."""
    alike: dict[tuple[Hashable, int], list[int]] = {}
    for i, key in enumerate(zip(kinds, common, strict=True)):
        alike.setdefault(key, []).append(i)
    count = Counter(kinds)
    for (kind, _), members in alike.items():
        for i in range(0, len(members), MOST):
            yield members[i : i + MOST], count[kind] < FEW
