"""What is different between a state and the one it should fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jopt.checkpoint.leaves import Kind, shown
from jopt.core.tree import Path

Problem = Literal["missing", "unexpected", "shape", "dtype", "scheduled", "not scheduled"]


@dataclass(frozen=True)
class Difference:
    """One place where a state does not fit.

    **Attributes:** `problem`: `"missing"` (only `like` has the leaf), `"unexpected"` (only the
    state has it), `"shape"`, `"dtype"`, `"scheduled"` (a number in the state that follows a
    schedule in `like`) or `"not scheduled"` (the reverse); `path`, a tuple of keys; `expected`
    and `found`, as text.
    """

    problem: Problem
    path: Path
    expected: str
    found: str

    def __str__(self) -> str:
        where = f"{self.problem:13} {shown(self.path) or '(the only leaf)'}"
        return f"{where}: expected {self.expected}, found {self.found}"


def compare(like: Mapping[Path, Kind], state: Mapping[Path, Kind]) -> list[Difference]:
    """All differences, in the order of their paths."""
    found: list[Difference] = []
    for path in like.keys() & state.keys():
        want, have = like[path], state[path]
        if want == have:
            continue
        if want.shape is None or have.shape is None:
            found.append(Difference("dtype", path, str(want), str(have)))
            continue
        if want.shape != have.shape:
            found.append(Difference("shape", path, str(want.shape), str(have.shape)))
        if want.dtype != have.dtype:
            found.append(Difference("dtype", path, want.dtype, have.dtype))
    missing, unexpected = _without(like, state), _without(state, like)
    found += _rescheduled(missing, unexpected, "scheduled")
    found += _rescheduled(unexpected, missing, "not scheduled")
    found += [Difference("missing", p, str(k), "nothing") for p, k in missing.items()]
    found += [Difference("unexpected", p, "nothing", str(k)) for p, k in unexpected.items()]
    return sorted(found, key=lambda d: (d.path, d.problem))


def _without(some: Mapping[Path, Kind], others: Mapping[Path, Kind]) -> dict[Path, Kind]:
    # An empty container is there, too, where the others have leaves in it: those tell the rest.
    inner = {path[:i] for path in others for i in range(len(path))}
    empty = Kind("dict")
    return {p: k for p, k in some.items() if p not in others and not (k == empty and p in inner)}


def _rescheduled(
    scheduled: dict[Path, Kind], plain: dict[Path, Kind], problem: Problem
) -> list[Difference]:
    """Takes out of both what is one number, kept as a schedule's memory on one side only."""
    found = []
    for path in list(plain):
        if len(path) < 3 or path[-3] != "hyperparams":
            continue
        memory = (*path[:-3], "schedules", *path[-2:])
        entries = [p for p in scheduled if p[: len(memory)] == memory]
        if entries:
            sides = ("a schedule", "a number")
            want, have = sides if problem == "scheduled" else sides[::-1]
            found.append(Difference(problem, path, want, have))
            del plain[path]
            for entry in entries:
                del scheduled[entry]
    return found
