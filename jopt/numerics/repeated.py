"""The same for many arrays, told jax in few equations: tracing and lowering take as long as these.

What XLA compiles is the same, for it puts the body of a call where the call is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

MOST = 8
"""At most so many are one call. A larger one saves hardly anything more, and is longer to trace."""


def traced(x: Any) -> bool:
    """Whether any of these arrays is in a trace; outside nothing can be put in order."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(x))


def in_batches(
    f: Callable[[Any, Any], Any],
    rows: Sequence[Any],
    kinds: Sequence[Hashable],
    common: Sequence[Any] | None = None,
) -> list[Any]:
    """`f(row, common)` for each of these rows of arrays.

    In a trace, rows of one kind are one call of a function that is traced once: they have the same
    shapes and, if any, the same `common`. Outside each is computed alone: a call of other numbers
    of arrays would be another program to compile. What `f` calls should be inlined into it, or XLA
    has to put calls in their place twice.
    """
    shared = [None] * len(rows) if common is None else common
    if not traced((rows, shared)):
        return [f(row, of) for row, of in zip(rows, shared, strict=True)]

    @jax.jit
    def batch(rows: list[Any], common: Any) -> list[Any]:
        return [f(row, common) for row in rows]

    of_kind: dict[Hashable, list[int]] = {}
    for i, kind in enumerate(kinds):
        of_kind.setdefault(kind, []).append(i)
    found: dict[int, Any] = {}
    for members in of_kind.values():
        for some in (members[i : i + MOST] for i in range(0, len(members), MOST)):
            done = batch([rows[i] for i in some], shared[some[0]])
            found |= zip(some, done, strict=True)
    return [found[i] for i in range(len(rows))]
