"""What a rule reads beside its leaf: the numbers of its groups, its step, what is prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

from jopt.core.counts import Counts
from jopt.core.ending import Ending
from jopt.core.paths import Path
from jopt.core.rules import prepared
from jopt.core.side_by_side import Numbers, handed_out, side_by_side
from jopt.numerics import number_dtype


def read_by(
    who: str,
    prepare: Callable[[Any], dict[str, Any]] | None,
    ending: Ending,
    known: Mapping[str, Any],
    options: Mapping[str, Any],
    counts: Counts | None,
    paths: Sequence[Path],
    shapes: Sequence[tuple[int, ...]],
    alone: bool | Literal["alone"] = False,
) -> list[Numbers]:
    """What the rule of each leaf reads: one array for leaves of one age and shape.

    **Arguments:** `known`: the numbers of their groups and the extra arguments; `options`: the
    static choices; `counts`: how old the leaves are, if the rule wants to know; `alone`: see
    `Spec.reduces`.
    """

    def read(path: Path) -> Numbers:
        h = dict(known)
        if counts is not None:
            h["t"] = counts.t(path).astype(number_dtype())
        if prepare is not None:
            made = prepared(who, prepare, SimpleNamespace(**h, **options))
            # What it gives as `None` it has used up, but for stages, which may want it.
            spent = {k for k, x in made.items() if x is None}
            h |= {k: x for k, x in made.items() if k not in spent}
            if not ending.stages:
                h = {k: x for k, x in h.items() if k not in spent}
        return side_by_side(ending.prepared(h))

    # Leaves of one age share one computation: equal leaves stay equal to the compiler.
    ages = [counts.age(path) if counts is not None else None for path in paths]
    shared: dict[Any, Numbers] = {}
    for age, path in zip(ages, paths, strict=True):
        if age not in shared:
            shared[age] = read(path)
    return handed_out(shared, ages, shapes, alone)
