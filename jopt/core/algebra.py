"""What a matrixwise rule has done to a stack of matrices, whoever holds it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, called
from jopt.core.one_leaf import cast_numbers
from jopt.core.ownership import IN_PLACE, Class, team_for
from jopt.core.side_by_side import side_by_side
from jopt.numerics import (
    Team,
    Together,
    Work,
    all_of,
    not_zero,
    put_back,
    real_dtype,
    taken,
)

Batch = Callable[..., Any]
"""`batch(stack, s, h)`: what is done to all matrices of a shape, see `jopt.matrixwise`."""
WorkOf = Callable[[tuple[int, int], Any], Any]
"""`work(shape, h)`: what a matrix takes."""
Kept = dict[str, Array]


@dataclass(frozen=True)
class Algebra:
    """What is done to a stack of matrices, and with what.

    **Attributes:** `who`: the optimizer; `batch`, `alike`, `spread`, `work`: see `matrixwise`;
    `owned`: the names of the slots that it sees, with whether they lie as the matrix does;
    `numbers`: what else it reads; `options`: of that what is no number; `turned`: the slots that
    change places where a matrix is turned over; `rows`: how many of each matrix are worked on,
    where the others are zeros.
    """

    who: str
    batch: Batch
    alike: bool
    owned: Mapping[str, bool]
    numbers: Mapping[str, Any]
    options: Mapping[str, Any]
    spread: Batch | None = None
    work: WorkOf | None = None
    turned: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None

    def turned_over(
        self, xs: Sequence[Array], kept: Sequence[Kept], lies: Sequence[Any]
    ) -> list[Kept]:
        """What is kept beside matrices by the names that it has when all are wide, or back."""
        if not self.turned:
            return [*kept]
        return [
            {self.turned.get(k, k): x for k, x in own.items()} if self.turns(x, lie) else own
            for x, own, lie in zip(xs, kept, lies, strict=True)
        ]

    def turns(self, x: Array, lie: Any = None) -> bool:
        """Whether these matrices, which lie so, are turned over: what is kept beside goes by that.

        On one device they are not for whoever says himself what is done to many at once.
        """
        goes_by_that = self.alike and bool(self.owned) and (lie is not None or not self.yields)
        return goes_by_that and x.shape[-2] > x.shape[-1]

    def __call__(
        self, x: Array, kept: Kept, numbers: Mapping[str, Any], *team: Team
    ) -> tuple[Array, Kept]:
        """What becomes of a stack `(k, m, n)`, and of what is kept beside each of its matrices."""
        done: list[tuple[Array, Kept]] = all_of([self._run(x, kept, numbers, *team)])
        return done[0]

    def of_all(
        self, xs: Sequence[Array], kept: Sequence[Kept], numbers: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Array, Kept]]:
        """The same of many stacks, what `batch` yields done to all at once."""
        return all_of(
            self._run(x, own, mine) for x, own, mine in zip(xs, kept, numbers, strict=True)
        )

    def _run(self, x: Array, kept: Kept, numbers: Mapping[str, Any], *team: Team) -> Together:
        if self.rows is not None:
            return (yield from self._of_rows(self.rows, x, numbers, *team)), {}
        h = self._seen(x, numbers)
        given = called(self.who, "batch", self.batch, x, *self._slots(kept), h, *team)
        if isinstance(given, Generator):
            given = yield from given
        y, new = given if self._pairs(given, kept) else (given, {})
        if getattr(y, "shape", ())[:1] != x.shape[:1]:
            raise ConfigError(
                self.who,
                "batch gives no stack of as many matrices",
                expected=f"an array of shape {x.shape}",
                found=repr(y)[:100],
            )
        return y.astype(x.dtype), {k: new[k].astype(v.dtype) for k, v in kept.items()}

    def _of_rows(self, count: int, x: Array, numbers: Mapping[str, Any], *team: Team) -> Together:
        rows = jax.vmap(functools.partial(not_zero, count=count))(x)
        part = jax.vmap(taken)(x, rows)
        y, _ = yield from replace(self, rows=None)._run(part, {}, numbers, *team)
        return jax.vmap(functools.partial(put_back, shape=x.shape[1:]))(y, rows)

    def turn_for(self, cls: Class) -> tuple[Class, Any]:
        """A class with the teams that its last matrices have, and who works on it.

        That is nobody where all devices do, each on its columns.
        """
        of = cls if self.rows is None else replace(cls, shape=(self.rows, max(cls.shape)))
        size = team_for(of, self._work(of), self.spread is not None and of is cls)
        if size == IN_PLACE:
            return cls, None
        cls = replace(cls, team=size)
        return cls, self if size == 1 else functools.partial(self._shared, size, cls)

    def _work(self, cls: Class) -> Work | None:
        if self.work is None:
            return None
        given = called(self.who, "work", self.work, cls.shape, SimpleNamespace(**self.options))
        if not isinstance(given, tuple) or len(given) != len(Work._fields):
            raise ConfigError(
                self.who,
                "work does not say what a matrix takes",
                expected=f"({', '.join(Work._fields)})",
                found=repr(given)[:100],
            )
        return Work(*given)

    def _shared(
        self, size: int, cls: Class, x: Array, kept: Kept, numbers: Mapping[str, Any]
    ) -> tuple[Array, Kept]:
        team, last = Team(cls.names, cls.devices, size), len(x) - 1
        y, _ = self(x[last:], kept, numbers, team)
        return (jnp.concatenate([self(x[:last], kept, numbers)[0], y]) if last else y), kept

    def on_columns(self, x: Array, numbers: Mapping[str, Any], over: tuple[str, ...]) -> Array:
        """The same of matrices of which this device has columns."""
        h = self._seen(x, numbers)
        found: Array = called(self.who, "spread", self.spread or self.batch, x, h, over)
        return found.astype(x.dtype)

    @property
    def yields(self) -> bool:
        """Whether `batch` says itself what is done to many stacks at once."""
        return inspect.isgeneratorfunction(self.batch)

    def numbers_for(self, count: int) -> list[Mapping[str, Any]]:
        """`arrays` for each of so many leaves: what a leaf does to its slots is a kernel alone.

        So it may have a sum in it, and write over the old ones.
        """
        rows = side_by_side(self.arrays).apart(count)
        return [row.read() for row in rows]

    @property
    def arrays(self) -> dict[str, Array]:
        """The numbers that a trace may hold."""
        return {k: x for k, x in self.numbers.items() if isinstance(x, Array)}

    @property
    def rest(self) -> dict[str, Any]:
        """The others."""
        return {k: x for k, x in self.numbers.items() if not isinstance(x, Array)}

    def _seen(self, x: Array, numbers: Mapping[str, Any]) -> Any:
        numbers = cast_numbers(numbers, real_dtype(x.dtype))
        return SimpleNamespace(**numbers, **self.rest, **self.options)

    def _slots(self, kept: Kept) -> list[Any]:
        return [SimpleNamespace(**kept)] if self.owned else []

    def _pairs(self, given: Any, kept: Kept) -> bool:
        pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping)
        names = sorted(given[1]) if pair else []
        if self.owned and names != sorted(kept):
            raise ConfigError(
                self.who,
                "batch gives other slots than it is given",
                expected=f"(stack, slots) with {', '.join(sorted(kept))}",
                found=", ".join(names) if pair else repr(given)[:100],
            )
        return bool(self.owned)
