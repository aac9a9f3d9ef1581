"""What the numbers of one leaf are like, from pieces of it that come one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Host = np.ndarray[Any, Any]

JOINED = 2**16
"""From so many entries on the time of a call goes into them."""


@dataclass(slots=True)
class Stats:
    """Mean and largest magnitude of the finite entries, and how many are not finite.

    The mean is taken in float64; that of complex numbers is complex.
    """

    finite: int = 0
    nans: int = 0
    infs: int = 0
    mean: complex = 0.0
    abs_max: float = 0.0

    def add(self, piece: Host) -> None:
        """Take in the next entries."""
        with np.errstate(all="ignore"):
            piece = numeric(piece)
            total = _sum(piece)
            if not np.isfinite(total):  # hardly ever, and one pass is all it takes to know
                nan, inf = np.isnan(piece), np.isinf(piece)
                self.nans += int(nan.sum())
                self.infs += int((inf & ~nan).sum())
                piece = piece[~(nan | inf)]
                total = _sum(piece)
            if piece.size:
                unit = 1.0
                if not np.isfinite(total):  # near the end of float64: no sum there, but a mean
                    unit = max(largest(piece.real), largest(piece.imag))
                    total = _sum(piece / unit)
                self.finite += piece.size
                share = piece.size / self.finite
                mean = total.item() / piece.size * unit
                self.mean += mean * share - self.mean * share
                self.abs_max = max(self.abs_max, largest(piece))

    def plain(self) -> dict[str, Any]:
        """The facts by name; `None` for what needs a finite entry, where there is none."""
        known = self.finite > 0
        return {
            "mean": self.mean if known else None,
            "abs_max": self.abs_max if known else None,
            "nans": self.nans,
            "infs": self.infs,
        }


@dataclass(slots=True)
class Joint:
    """The same over many leaves: their pieces are put together first, as most are small."""

    stats: Stats = field(default_factory=Stats)
    _pieces: list[Host] = field(default_factory=list)
    _size: int = 0

    def add(self, piece: Host) -> None:
        """Take in the next entries."""
        if self._pieces and self._pieces[0].dtype != piece.dtype:
            self._flush()
        self._pieces.append(piece)
        self._size += piece.size
        if self._size >= JOINED:
            self._flush()

    def plain(self) -> dict[str, Any]:
        """The facts by name."""
        self._flush()
        return self.stats.plain()

    def _flush(self) -> None:
        if self._pieces:
            one = len(self._pieces) == 1
            self.stats.add(self._pieces[0] if one else np.concatenate(self._pieces))
        self._pieces, self._size = [], 0


def numeric(piece: Host) -> Host:
    """The same numbers in a dtype of NumPy's own, which all of its functions take."""
    if piece.dtype.isbuiltin == 1:
        # NumPy has float16, too, but computes slowly with it.
        return piece.astype(np.float32) if piece.dtype == np.float16 else piece
    return piece.astype(np.complex64 if "complex" in piece.dtype.name else np.float32)


def largest(piece: Host) -> float:
    """The largest magnitude; integers as exact as a float can be."""
    if np.iscomplexobj(piece):
        return float(np.abs(piece).max())
    # Not abs(): it needs room for a copy, and the lowest integer has no negative.
    return max(abs(float(piece.max())), abs(float(piece.min())))


def _sum(piece: Host) -> Any:
    return piece.sum(dtype=np.complex128 if np.iscomplexobj(piece) else np.float64)
