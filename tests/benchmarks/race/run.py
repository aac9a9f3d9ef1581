"""Runs what is missing: the trials of each entrant, then its best point at the reported seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.benchmarks.race.entrants import ENTRANTS
from tests.benchmarks.race.points import read
from tests.benchmarks.race.store import Key, Store
from tests.benchmarks.race.task import Task
from tests.benchmarks.race.train import Program, state_bytes
from tests.benchmarks.reports import note


class Runner:
    """An entrant on a task; its program is compiled when the first run is missing."""

    def __init__(self, task: Task, name: str, store: Store) -> None:
        self.task, self.name, self.store = task, name, store
        self.entrant, self.points = ENTRANTS[name], read()
        self.program: Program | None = None

    def run(self, keys: Sequence[Key]) -> None:
        """Those of the runs that are missing."""
        todo, n = self.store.missing(list(keys)), self.task.at_once
        for begin in range(0, len(todo), n):
            self.some(todo[begin : begin + n])

    def some(self, keys: Sequence[Key]) -> None:
        """At most `at_once` runs."""
        if self.program is None:
            self.program = Program(self.task, self.entrant)
            facts = {
                "state_bytes": state_bytes(self.task, self.entrant),
                "temporary": self.program.temporary,
                "compile_seconds": round(self.program.compile_seconds, 2),
            }
            self.store.say_of(self.name, facts)
        found = self.program([(*self.entrant.at(self.points[p]), seed) for _, p, seed in keys])
        for key, row in zip(keys, found, strict=True):
            self.store.add(key, row)


def race(store: Store, names: Sequence[str]) -> None:
    """All that is missing of these entrants; a control waits for the one it is the control of."""
    task = store.task
    store.begin()
    for name in names:
        begun = time.monotonic()
        runner = Runner(task, name, store)
        tuned = ENTRANTS[name].control_of or name
        if tuned == name:
            runner.run(store.trials(name))
        point = store.best(tuned)
        if point is None:
            note(f"{task.name}: {name} waits for {tuned}")
            continue
        runner.run(store.reported(name, point))
        if runner.program is not None:
            note(f"{task.name}: {name} done, {time.monotonic() - begun:.0f} s")
