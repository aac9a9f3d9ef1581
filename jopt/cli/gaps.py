"""How far two arrays are apart, from pieces of them that come one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jopt.cli.stats import numeric

Host = np.ndarray[Any, Any]


@dataclass
class Gap:
    """The entries that differ, and the largest differences among all.

    Two entries are the same if they are equal, both NaN, or within
    |a − b| ≤ max(rtol·max(|a|, |b|), atol). The relative difference is |a − b| / max(|a|, |b|).
    Where only one is a NaN or infinite both differences are infinite. `exact` compares bits.
    """

    rtol: float = 0.0
    atol: float = 0.0
    exact: bool = False
    entries: int = 0
    differ: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0

    def fresh(self) -> Gap:
        """The same tolerances, and nothing seen yet."""
        return replace(self, entries=0, differ=0, max_abs=0.0, max_rel=0.0)

    def add(self, a: Host, b: Host) -> None:
        """Take in the next entries of both."""
        self.entries += a.size
        alike = a.dtype == b.dtype
        if alike and a.tobytes() == b.tobytes():  # nearly always, and much faster
            return
        with np.errstate(all="ignore"):
            same, apart, scale = _apart(*_alike(a, b))
            near = np.isfinite(apart) & (apart <= np.maximum(self.rtol * scale, self.atol))
            ratio = np.where(same, 0.0, apart / scale)
        if self.exact and alike:
            bits = (x.view(np.uint8).reshape(a.size, -1) for x in (a, b))
            self.differ += int(np.not_equal(*bits).any(axis=1).sum())
        else:
            self.differ += int((~(same | near)).sum())
        self.max_abs = max(self.max_abs, float(apart.max()))
        self.max_rel = max(self.max_rel, float(np.where(np.isnan(ratio), np.inf, ratio).max()))

    def allows(self, a: Any, b: Any) -> bool:
        """Whether two Python values of one type are the same, by what holds for entries."""
        if self.exact or type(a) not in (int, float, complex):
            return repr(a) == repr(b)
        if a == b or (a != a and b != b):
            return True
        try:
            apart, scale = abs(a - b), max(abs(a), abs(b))
            return bool(np.isfinite(apart)) and apart <= max(self.rtol * scale, self.atol)
        except (OverflowError, TypeError):  # an int, or a magnitude, that no float holds
            return False

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "entries": self.entries,
            "differ": self.differ,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
        }


def _apart(a: Host, b: Host) -> tuple[Host, Host, Host]:
    """Where a and b are the same, |a − b|, and max(|a|, |b|)."""
    same = (a == b) | ((a != a) & (b != b))
    scale = np.fmax(np.abs(a), np.abs(b)).astype(np.float64)
    if a.dtype.kind == "i":  # exact at any size: the difference wraps to what it is
        apart = np.maximum(a, b).astype(np.uint64) - np.minimum(a, b).astype(np.uint64)
    elif a.dtype.kind == "u":
        apart = np.maximum(a, b) - np.minimum(a, b)
    else:
        apart = np.abs(a - b)
    apart = np.where(same, 0.0, apart.astype(np.float64))
    return same, np.where(np.isnan(apart), np.inf, apart), scale


def _alike(a: Host, b: Host) -> tuple[Host, Host]:
    """Both in the widest dtype of their kind; of two kinds, as floating numbers."""
    a, b = numeric(a), numeric(b)
    widest = {"b": np.uint64, "u": np.uint64, "i": np.int64, "f": np.float64}
    kinds = {a.dtype.kind, b.dtype.kind}
    wide: Any = widest.get(a.dtype.kind, np.complex128) if len(kinds) == 1 else np.float64
    wide = np.complex128 if "c" in kinds else wide
    return a.astype(wide), b.astype(wide)
