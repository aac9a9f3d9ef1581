"""Leaves that are no matrices, through what is done to matrices: many at once, or each alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jopt.core.algebra import Algebra
from jopt.core.matrix_runs import Waiting
from jopt.core.on_device import on_device
from jopt.core.ownership import Lie


def others_through(
    algebra: Algebra, waiting: Sequence[Waiting], lies: Iterable[Lie | None]
) -> list[tuple[Any, Any]]:
    """What becomes of each tensor and of what is kept beside it.

    On a mesh nobody owns one that is no matrix: to put it beside others would move it.
    """
    here: list[Waiting] = []
    found: dict[int, tuple[Any, Any]] = {}
    for w, lie in zip(waiting, lies, strict=True):
        if lie is None and algebra.yields:
            here.append(w)
        else:
            found[w.leaf.index] = _alone(algebra, w)
    leads = [w.leaf.stack.lead if w.leaf.stack else () for w in here]
    ys, kept = on_device(algebra, [w.x[0] for w in here], [w.x[1] for w in here], leads)
    found |= {w.leaf.index: (y, own) for w, y, own in zip(here, ys, kept, strict=True)}
    return [found[w.leaf.index] for w in waiting]


def _alone(algebra: Algebra, waiting: Waiting) -> tuple[Any, Any]:
    def one(x: Any, kept: Any) -> tuple[Any, Any]:
        y, new = algebra(x[None], {k: v[None] for k, v in kept.items()}, algebra.arrays)
        return y[0], {k: v[0] for k, v in new.items()}

    stack = waiting.leaf.stack
    return (one if stack is None else stack.mapped(one))(*waiting.x)
