"""The quasi-random points of the unit square at which every optimizer is tuned, drawn once.

`python -m tests.benchmarks.race.points` draws them again: they have to be those in `points.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.reports import say

FILE = Path(__file__).parent / "points.json"
COUNT = 16
SEED = 20250909

Point = tuple[float, float]


def draw() -> list[Point]:
    """Sobol's sequence in two dimensions, scrambled; any first 2ᵏ of them are spread evenly."""
    from scipy.stats.qmc import Sobol

    drawn = Sobol(2, scramble=True, rng=SEED).random(COUNT)
    return [(round(float(x), 6), round(float(y), 6)) for x, y in drawn]


def read() -> list[Point]:
    """The points that are committed."""
    return [(x, y) for x, y in json.loads(FILE.read_text())]


def log_between(share: float, least: float, most: float) -> float:
    """What lies at a share of the way from the least to the most, by their logarithms."""
    return float(least * (most / least) ** share)


if __name__ == "__main__":
    FILE.write_text("[\n" + ",\n".join(f" {json.dumps(p)}" for p in draw()) + "\n]\n")
    say(f"{COUNT} points: {FILE}")
