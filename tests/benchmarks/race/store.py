"""The results: lines of JSON, one a run, added to as they come and never rewritten.

A file belongs to a task. A line that says what the task is comes first, then one for each
environment that added to it and for each run, told apart by entrant, point and seed. A run of a
seed that is reported keeps its losses along the way, one of the tuning its last ones alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.race.task import Task
from tests.benchmarks.reports import environment

FOLDER = Path(__file__).parents[1] / "results" / "race"

Key = tuple[str, int, int]
"""An entrant, the number of a point, and a seed."""


class Store:
    """The results of one task; `to_add`, whether more are to be added, of the same data."""

    def __init__(self, task: Task, folder: Path = FOLDER, *, to_add: bool = True) -> None:
        self.path = folder / f"{task.name}.jsonl"
        self.task = task
        self.rows: dict[Key, dict[str, Any]] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.environments: list[Any] = []
        for line in read(self.path):
            if "environment" in line:
                self.environments.append(line["environment"])
            elif "entrant" not in line:
                if to_add:
                    self.check(line)
            elif "seed" in line:
                self.rows[line["entrant"], line["point"], line["seed"]] = line
            else:
                self.facts[line["entrant"]] = line

    def check(self, line: Mapping[str, Any]) -> None:
        """Whether the file is of this task, with the same data and the same size of the race."""
        own = self.task.described()
        if other := [k for k in own if line.get(k) != own[k]]:
            told = "; ".join(f"{k}: {line.get(k)!r} there, {own[k]!r} here" for k in other)
            raise SystemExit(f"{self.path} holds another race: {told}. Choose another --results.")

    def begin(self) -> None:
        """Say what the task is and who adds to the file, unless the file says so."""
        if not self.path.exists():
            self.append(self.task.described())
        if (here := environment()) not in self.environments:
            self.append({"environment": here})
            self.environments.append(here)

    def append(self, line: Mapping[str, Any]) -> None:
        """One line more."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(f"{json.dumps(line, allow_nan=False, separators=(',', ':'))}\n")

    def add(self, key: Key, found: Mapping[str, Any]) -> None:
        """What a run found."""
        names = dict(zip(("entrant", "point", "seed"), key, strict=True))
        kept = dict(found)
        if key[2] in self.task.tuning_seeds:
            kept = {k: v for k, v in kept.items() if k not in ("train", "held_out")}
        self.rows[key] = {**names, **kept}
        self.append(self.rows[key])

    def say_of(self, entrant: str, facts: Mapping[str, Any]) -> None:
        """What is so of an entrant, whatever the run."""
        if entrant not in self.facts:
            self.facts[entrant] = {"entrant": entrant, **facts}
            self.append(self.facts[entrant])

    def missing(self, keys: list[Key]) -> list[Key]:
        """Those of the runs that are not there."""
        return [key for key in keys if key not in self.rows]

    def trials(self, entrant: str) -> list[Key]:
        """The runs that an entrant is tuned by."""
        points, seeds = range(self.task.trials), self.task.tuning_seeds
        return [(entrant, point, seed) for point in points for seed in seeds]

    def reported(self, entrant: str, point: int) -> list[Key]:
        """The runs that are reported of it."""
        return [(entrant, point, seed) for seed in self.task.seeds]

    def tuned(self, entrant: str) -> list[float] | None:
        """The validation loss of each point, a mean over the tuning's seeds; None if unfinished.

        A point with a run that is not finite has an infinite one.
        """
        if self.missing(self.trials(entrant)):
            return None
        of = [self.rows[key]["validation"] for key in self.trials(entrant)]
        finite = [float("inf") if x is None else x for x in of]
        n = len(self.task.tuning_seeds)
        return [sum(finite[i : i + n]) / n for i in range(0, len(finite), n)]

    def best(self, entrant: str) -> int | None:
        """The point with the least validation loss; None if the tuning is unfinished."""
        losses = self.tuned(entrant)
        return None if losses is None else losses.index(min(losses))


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; one that was cut off while it was written is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
