"""What the runs of a task say: means, intervals, and whether a difference is certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.benchmarks.race.entrants import BASELINE, ENTRANTS
from tests.benchmarks.race.points import read
from tests.benchmarks.race.store import Store

Interval = tuple[float, float]
RESAMPLES = 9999
EDGE = 0.1
"""How near to an end of the rates' range, as a share of it, the best point is told to be."""


def interval(x: Any) -> Interval:
    """Of the mean of a sample: 95 per cent of the means of samples drawn from it, with returns."""
    from scipy.stats import bootstrap

    found = bootstrap((x,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


@dataclass(frozen=True)
class Result:
    """What an entrant's reported runs found."""

    name: str
    rate: float
    decay: float
    edge: str
    """Which end of its range the rate is near to, if it is."""
    rows: Sequence[dict[str, Any]]
    """One a seed."""

    @property
    def finals(self) -> np.ndarray:
        """The held-out loss of each seed at the end."""
        return self.curves[:, -1]

    @property
    def curves(self) -> np.ndarray:
        """The held-out losses of each seed along the way."""
        return np.array([r["held_out"] for r in self.rows], dtype=float)

    @property
    def finite(self) -> bool:
        """Whether all are numbers at the end."""
        return bool(np.isfinite(self.finals).all())

    @property
    def seconds(self) -> float:
        """The processor's, of a step with its gradient."""
        return float(np.mean([r["seconds"] for r in self.rows]))

    @property
    def order(self) -> float:
        """By which results are sorted: the mean loss at the end."""
        return float(self.finals.mean()) if self.finite else float("inf")


def result(store: Store, name: str) -> Result | None:
    """Of one entrant; None if runs are missing."""
    point = store.best(ENTRANTS[name].control_of or name)
    if point is None or store.missing(store.reported(name, point)):
        return None
    share, _ = at = read()[point]
    rate, decay = ENTRANTS[name].at(at)
    edge = "low" if share < EDGE else "high" if share > 1 - EDGE else ""
    rows = [store.rows[key] for key in store.reported(name, point)]
    return Result(name, rate, decay, edge, rows)


def results(store: Store) -> dict[str, Result]:
    """Of all entrants whose runs are there, the least mean loss first."""
    found = [r for name in ENTRANTS if (r := result(store, name))]
    return {r.name: r for r in sorted(found, key=lambda r: r.order)}


def baseline(store: Store) -> str | None:
    """The AdamW that the tuning prefers; None if it is unfinished."""
    losses = {name: store.tuned(name) for name in BASELINE}
    known = {name: min(x) for name, x in losses.items() if x is not None}
    return min(known, key=lambda name: known[name]) if len(known) == len(BASELINE) else None


@dataclass(frozen=True)
class Gap:
    """The difference of an entrant's last losses to the baseline's, seed by seed."""

    each: np.ndarray
    base: float
    """The baseline's mean."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.each.mean())

    @property
    def interval(self) -> Interval:
        """Of the mean."""
        return interval(self.each)

    @property
    def verdict(self) -> str:
        """Certain if the interval is without 0 and all seeds are on one side of it."""
        if not np.isfinite(self.each).all():
            return "diverged"
        low, high = self.interval
        if high < 0 and (self.each < 0).all():
            return "better"
        return "worse" if low > 0 and (self.each > 0).all() else "uncertain"


def gap(of: Result, base: Result) -> Gap:
    """The same seed has the same first parameters and batches."""
    return Gap(of.finals - base.finals, base.order)


def steps_to(of: Result, target: float, steps: int) -> int | None:
    """The first mark at which the mean over seeds is as low as that; None if none is.

    In the middle of a schedule, whose rate is still high: a rate that has fallen would be lower.
    """
    means = of.curves.mean(axis=0)
    there = np.flatnonzero(means <= target)
    return int(there[0] + 1) * steps // len(means) if len(there) else None


def apart(of: Result, original: Result) -> tuple[float, float]:
    """How far a control's curve is from its original's, as a share: at most, and at the end."""
    off = np.abs(of.curves / original.curves - 1)
    return float(off.max()), float(off[:, -1].max())
