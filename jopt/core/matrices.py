"""The leaves that an optimizer of matrices is to have, and which matrices they are."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jopt.base import GroupError
from jopt.core.axes import AxesOf, Pairs
from jopt.core.leaf_kinds import kinds, runs, segments
from jopt.core.linear_maps import VECTOR, line_of
from jopt.core.match import Match, Picker, picked

FIX = (
    'Say which AdamW is to have: also_adamw="Conv|Attention", or other patterns for the path. '
    "Which matrices the others are, axes= says."
)


class Matrices(Picker):
    """The leaves that `muon_adamw` gives to Muon; it refuses those of which it cannot tell."""

    def __init__(
        self,
        exclude: str,
        also_adamw: Match | None,
        also_muon: Match | None,
        axes: Pairs,
        default: str,
    ) -> None:
        self.settings: tuple[Any, ...] = exclude, also_adamw, also_muon, axes
        self.default = default

    def pick(self, who: str, names: Sequence[str], leaves: Sequence[Any]) -> Sequence[bool]:
        """Whether each leaf goes to Muon."""
        exclude, also_adamw, also_muon, _ = self.settings
        shapes = [tuple(x.shape) for x in leaves]
        adamw = _also("also_adamw", also_adamw, names, leaves)
        muon = _also("also_muon", also_muon, names, leaves)
        said = self.said(names, leaves)
        lines = lines_of(names, shapes)
        chosen: list[bool] = []
        unclear: list[str] = []
        for i, kind in enumerate(kinds(names, shapes)):
            asked = muon[i] or names[i] in said
            if adamw[i] and asked:
                raise GroupError("muon_adamw", "also_adamw and also_muon both match", path=names[i])
            output = any(re.fullmatch(exclude, run) for run in runs(names[i]))
            line = lines.get(names[i])
            matrix = line != VECTOR if line else kind == "matrix"
            inside = kind in ("matrix", "stack") and matrix and not output and not adamw[i]
            chosen.append(asked or (inside and (line is not None or kind == "matrix")))
            if kind == "stack" and line is None and not (output or adamw[i] or asked):
                unclear.append(f"{names[i]} {shapes[i]}")
        if unclear:
            raise GroupError(
                "muon_adamw",
                "these may be stacks of layers, heads or filters, and Muon is for one matrix at a "
                "time:\n  " + "\n  ".join(unclear),
                fix=FIX,
            )
        return chosen

    def said(self, names: Sequence[str], leaves: Sequence[Any]) -> dict[str, str]:
        """What `axes=` says, by name."""
        found: dict[str, str] = {}
        for match, line in self.settings[3]:
            of = _also("axes", match, names, leaves)
            found |= {name: line for name, mine in zip(names, of, strict=True) if mine}
        return found

    def __repr__(self) -> str:
        shown = zip(("exclude", "also_adamw", "also_muon"), self.settings[:3], strict=True)
        own = [f"{k}={v!r}" for k, v in shown if v not in (None, self.default)]
        own += [f"axes={dict(self.settings[3])!r}"] if self.settings[3] else []
        return f"Matrices({', '.join(own)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrices) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings)


class Lines(AxesOf):
    """The matrices that `Matrices` has found in these leaves."""

    def __init__(self, matrices: Matrices) -> None:
        self.matrices = matrices

    def lines(self, names: Sequence[str], leaves: Sequence[Any]) -> Mapping[str, str]:
        """See `AxesOf`."""
        found = lines_of(names, [tuple(x.shape) for x in leaves])
        told = {name: line for name, line in found.items() if line != VECTOR}
        return told | self.matrices.said(names, leaves)

    def __repr__(self) -> str:
        return f"Lines({self.matrices!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lines) and self.matrices == other.matrices

    def __hash__(self) -> int:
        return hash(self.matrices)


def lines_of(names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> dict[str, str]:
    """The axes of every leaf of which `line_of` tells them, which are all there are."""
    return dict(_lines_of(tuple(names), tuple(shapes)))


@functools.lru_cache(maxsize=64)
def _lines_of(names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> Mapping[str, str]:
    tree = {segments(name): shape for name, shape in zip(names, shapes, strict=True)}
    found = zip(names, (line_of(path, tree) for path in map(segments, names)), strict=True)
    return {name: line for name, line in found if line is not None}


def _also(
    argument: str, match: Match | None, names: Sequence[str], leaves: Sequence[Any]
) -> Sequence[bool]:
    if match is None:
        return [False] * len(names)
    found = picked("muon_adamw", match, names, leaves)
    if not any(found):
        raise GroupError("muon_adamw", f"{argument} matches no leaf", found=repr(match))
    return found
