"""What is different between a state and the one it should fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from jopt.base import LINE, printable
from jopt.checkpoint.leaves import Kind
from jopt.core.paths import Path, shown

Problem = Literal["missing", "unexpected", "shape", "dtype", "scheduled", "not scheduled"]
"""In what two states differ at a path."""

SHOWN = 12
"""How many lines of one kind a printed report has."""


@dataclass(frozen=True)
class Difference:
    """One place where a state does not fit.

    **Attributes:** `problem`: `"missing"` (only `like` has the leaf), `"unexpected"` (only the
    state has it), `"shape"`, `"dtype"`, `"scheduled"` (a number in the state that follows a
    schedule in `like`) or `"not scheduled"` (the reverse); `path`, a tuple of keys; `name`, the
    same as text; `expected` and `found`, as text.
    """

    problem: Problem
    path: Path
    expected: str
    found: str

    @property
    def name(self) -> str:
        """The path joined by `/`; a `/` within a key is `~1`."""
        return shown(self.path)

    def __str__(self) -> str:
        where = f"{self.problem:13} {printable(self.name, LINE) or '(the only leaf)'}"
        return f"{where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Report:
    """What a load with `strict=False` took, changed and left; prints as a short table.

    Names are paths joined by `/`, as `like` has them.

    **Attributes:**

    - `loaded`: the leaves that have the state's value now. All others have `like`'s.
    - `kept`: the names that `keep` matched, in `like` or in the state.
    - `renamed`: pairs, the name in the state and the one that `rename` made of it.
    - `renewed`: a line for each number that the state has otherwise than the transform which made
      `like` was built with since: what was found, and what holds; see `jopt.load`.
    - `casts`: a `Difference` for each leaf whose dtype `cast` changed; `cast`, their names.
    - `differences`: a `Difference` for each leaf that does not fit; `missing`, `unexpected` and
      `unfit` (another shape or dtype, or scheduled on one side only), their names.
    - `configuration`: how the transform recorded is another than `tx`, a line each.
    - `ok`: whether nothing is left over, so that `strict=True` would have loaded the same.

    >>> import jax.numpy as jnp, jopt
    >>> like, state = {"w": jnp.ones(2), "b": jnp.ones(1)}, {"w": jnp.ones(3), "b": jnp.zeros(1)}
    >>> _, report = jopt.load_state_dict(like, state, strict=False)
    >>> print(report)
    1 leaf loaded, 1 difference
      shape         w: expected (2,), found (3,)
    >>> report.loaded, report.unfit, report.ok
    (('b',), ('w',), False)
    """

    loaded: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    casts: tuple[Difference, ...] = ()
    differences: tuple[Difference, ...] = ()
    configuration: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()

    @property
    def cast(self) -> tuple[str, ...]:
        """The leaves that have another dtype than in the state."""
        return tuple(d.name for d in self.casts)

    @property
    def missing(self) -> tuple[str, ...]:
        """The leaves that only `like` has."""
        return self._named("missing")

    @property
    def unexpected(self) -> tuple[str, ...]:
        """The leaves that only the state has."""
        return self._named("unexpected")

    @property
    def unfit(self) -> tuple[str, ...]:
        """The leaves that both have, of another shape or dtype or scheduled on one side only."""
        return self._named("shape", "dtype", "scheduled", "not scheduled")

    @property
    def ok(self) -> bool:
        """Whether everything fitted."""
        return not self.differences and not self.configuration

    def __str__(self) -> str:
        n = len(self.differences) + len(self.configuration)
        loaded = _count(len(self.loaded), "leaf", "leaves")
        head = f"{loaded} loaded, {_count(n, 'difference', 'differences')}"
        return "\n".join([head, *self._lines()])

    def _lines(self) -> Iterator[str]:
        yield from _listed("renamed", [f"{old} -> {new}" for old, new in self.renamed])
        yield from _listed("kept", self.kept)
        yield from _listed("renewed", self.renewed)
        cast = [f"{d.name}: {d.found} -> {d.expected}" for d in self.casts]
        yield from _listed("cast", cast)
        yield from _listed("configuration", self.configuration)
        for problem in dict.fromkeys(d.problem for d in self.differences):
            yield from _listed("", [str(d) for d in self.differences if d.problem == problem])

    def _named(self, *problems: Problem) -> tuple[str, ...]:
        return tuple(dict.fromkeys(d.name for d in self.differences if d.problem in problems))


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _listed(what: str, lines: tuple[str, ...] | list[str]) -> Iterator[str]:
    head = f"{what:13} " if what else ""
    for line in lines[:SHOWN]:
        yield f"  {head}{printable(line, 2000) or '(the only leaf)'}"
    if len(lines) > SHOWN:
        yield f"  {'':13} ... and {len(lines) - SHOWN} more"


def compare(like: Mapping[Path, Kind], state: Mapping[Path, Kind]) -> list[Difference]:
    """All differences, in the order of their paths."""
    if like == state:
        return []
    found: list[Difference] = []
    for path, want in like.items():
        have = state.get(path, want)
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
    alone = {path: kind for path, kind in some.items() if path not in others}
    # An empty container is there, too, where the others have leaves in it: those tell the rest.
    empty = {path for path, kind in alone.items() if kind == Kind("dict")}
    if empty:
        inner = {path[:i] for path in others for i in range(len(path))}
        alone = {path: kind for path, kind in alone.items() if path not in empty & inner}
    return alone


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
