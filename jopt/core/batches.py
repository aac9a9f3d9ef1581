"""Many matrices as stacks, each through the linear algebra once: here, or on their owners."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, StateError, called
from jopt.core.one_leaf import cast_numbers
from jopt.core.ownership import (
    Class,
    Lie,
    OwnedStack,
    classes_of,
    in_place,
    is_too_large,
    lying_so,
    on_owners,
    team_size,
)
from jopt.numerics import Team, Work, real_dtype

Batch = Callable[..., Any]
"""`batch(stack, s, h)`: what is done to all matrices of a shape, see `jopt.matrixwise`."""
WorkOf = Callable[[tuple[int, int], Any], Any]
"""`work(shape, h)`: what a matrix takes."""
Kept = dict[str, Array]
Stacks = dict[str, dict[str, OwnedStack]]
"""What is with the owners already, by class and slot."""
RESTACK = "state = jopt.sharding.to_stacks(tx, jopt.sharding.to_leaves(state), params)."


@dataclass(frozen=True)
class Algebra:
    """What is done to a stack of matrices, and with what.

    **Attributes:** `who`: the optimizer; `batch`, `alike`, `spread`, `work`: see `matrixwise`;
    `owned`: the names of the slots that it sees, with whether they lie as the matrix does;
    `numbers`: what else it reads; `options`: of that what is no number; `turned`: the slots that
    change places where a matrix is turned over.
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

    def turned_over(self, xs: Sequence[Array], kept: Sequence[Kept]) -> list[Kept]:
        """What is kept beside matrices by the names that it has when all are wide, or back."""
        if not self.turned or not self.turns:
            return [*kept]
        tall = [x.shape[-2] > x.shape[-1] for x in xs]
        return [
            {self.turned.get(k, k): x for k, x in own.items()} if over else own
            for own, over in zip(kept, tall, strict=True)
        ]

    def __call__(
        self, x: Array, kept: Kept, numbers: Mapping[str, Any], *team: Team
    ) -> tuple[Array, Kept]:
        """What becomes of a stack `(k, m, n)`, and of what is kept beside each of its matrices."""
        h = self._seen(x, numbers)
        given = called(self.who, "batch", self.batch, x, *self._slots(kept), h, *team)
        y, new = given if self._pairs(given, kept) else (given, {})
        if getattr(y, "shape", ())[:1] != x.shape[:1]:
            raise ConfigError(
                self.who,
                "batch gives no stack of as many matrices",
                expected=f"an array of shape {x.shape}",
                found=repr(y)[:100],
            )
        return y.astype(x.dtype), {k: new[k].astype(v.dtype) for k, v in kept.items()}

    def by_teams(self, cls: Class) -> tuple[Class, Any]:
        """A class, the last of whose matrices teams have if that costs less, and who does that."""
        left = cls.count % cls.devices
        if self.work is None or not left:
            return cls, self
        given = called(self.who, "work", self.work, cls.shape, SimpleNamespace(**self.options))
        if not isinstance(given, tuple) or len(given) != len(Work._fields):
            raise ConfigError(
                self.who,
                "work does not say what a matrix takes",
                expected=f"({', '.join(Work._fields)})",
                found=repr(given)[:100],
            )
        size = team_size(left, cls.shape[0], cls.devices, Work(*given))
        return replace(cls, team=size), self if size == 1 else functools.partial(
            self._shared, size, cls
        )

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
    def turns(self) -> bool:
        """Whether tall matrices are turned over here, too: what is kept beside goes by that."""
        return self.alike and bool(self.owned)

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


def batched(
    algebra: Algebra, xs: Sequence[Array], kept: Sequence[Kept], lies: Sequence[Lie | None]
) -> tuple[list[Array], list[Kept]]:
    """What becomes of each array of matrices, `(*lead, m, n)`, and of what is kept beside it."""
    results: dict[int, Array] = {}
    after: dict[int, Kept] = {}
    whole: dict[Any, list[int]] = {}
    for i, (x, lie) in enumerate(zip(xs, lies, strict=True)):
        if lie is None:
            shape = x.shape[-2:]
            turned = algebra.turns and shape[0] > shape[1]
            whole.setdefault((shape[::-1] if turned else shape, x.dtype), []).append(i)
    for members in whole.values():
        done = _here(algebra, [xs[i] for i in members], [kept[i] for i in members])
        results |= zip(members, done[0], strict=True)
        after |= zip(members, done[1], strict=True)
    away = [i for i, lie in enumerate(lies) if lie is not None]
    found = [lie for lie in lies if lie is not None]
    for cls in classes_of([xs[i] for i in away], found, alike=algebra.alike):
        members = [away[member.index] for member in cls.members]
        if algebra.spread is not None and is_too_large(cls):
            mine = in_place(algebra.on_columns, cls, [xs[i] for i in members], algebra.arrays)
            results |= zip(members, mine, strict=True)
            after |= {i: kept[i] for i in members}
            continue
        cls, turn = algebra.by_teams(cls)
        ys, own, _ = on_owners(
            turn,
            cls,
            [xs[i] for i in members],
            [kept[i] for i in members],
            algebra.owned,
            algebra.arrays,
        )
        results |= zip(members, ys, strict=True)
        after |= zip(members, own, strict=True)
    return [results[i] for i in range(len(xs))], [after[i] for i in range(len(xs))]


def with_stacks(
    algebra: Algebra,
    xs: Sequence[Array],
    kept: Sequence[Kept],
    lies: Sequence[Lie | None],
    paths: Sequence[tuple[str, ...]],
    stacks: Stacks,
) -> tuple[list[Array], list[Kept], Stacks]:
    """The same as `batched` where these stacks have what is kept of some of the matrices."""
    kept = algebra.turned_over(xs, kept)
    results: dict[int, Array] = {}
    after: dict[int, Kept] = {}
    at = {path: i for i, path in enumerate(paths)}
    new: Stacks = {}
    for name, mine in stacks.items():
        deal = next(iter(mine.values())).deal
        there = [at[owner.path] for owner in deal.owners if owner.path in at]
        new[name] = mine
        if not there:
            continue
        lie = lies[there[0]]
        if lie is None or tuple((n, lie.mesh.shape[n]) for n in lie.names) != deal.mesh:
            raise StateError(
                algebra.who,
                "its stacks are dealt out over another mesh than there is",
                expected=f"mesh axes {dict(deal.mesh)}",
                found=f"{dict(lie.mesh.shape)}" if lie else "none",
                fix=RESTACK,
            )
        cls = deal.on(lie.mesh, xs[there[0]].dtype)
        rows = [at.get(deal.owners[member.index].path) for member in cls.members]
        have = [i for i in rows if i is not None]
        arrays = [
            None if i is None else lying_so(xs[i].astype(cls.dtype), member.lie.spec)
            for i, member in zip(rows, cls.members, strict=True)
        ]
        own = {k: x.array for k, x in mine.items()}
        done = on_owners(
            algebra,
            cls,
            arrays,
            [kept[i] for i in have],
            algebra.owned,
            algebra.arrays,
            own,
        )
        results |= zip(have, done[0], strict=True)
        after |= zip(have, done[1], strict=True)
        new[name] = {k: replace(x, array=done[2][k]) for k, x in mine.items()}
    rest = [i for i in range(len(xs)) if i not in results]
    if rest:
        of = [xs[i] for i in rest], [kept[i] for i in rest], [lies[i] for i in rest]
        ys, own_of = batched(algebra, *of)
        results |= zip(rest, ys, strict=True)
        after |= zip(rest, own_of, strict=True)
    own_after = algebra.turned_over(xs, [after[i] for i in range(len(xs))])
    return [results[i] for i in range(len(xs))], own_after, new


def _here(algebra: Algebra, xs: list[Array], kept: list[Kept]) -> tuple[list[Array], list[Kept]]:
    """The same for those of one shape on one device."""
    # The barrier lets a leaf's kernel write what joins beside its slots; without it XLA
    # reads gradient and slots again to stack them.
    leads = [x.shape[:-2] for x in xs]
    tall = [algebra.turns and x.shape[-2] > x.shape[-1] for x in xs]
    stack = _stacked(_turned(jax.lax.optimization_barrier(xs), tall), leads)
    # Matrices of one shape have the same slots; not all shapes need have all.
    columns = {k: [own[k] for own in kept] for k in kept[0]}
    like = [k for k in columns if algebra.owned[k]]
    columns |= {k: _turned(columns[k], tall) for k in like}
    y, new = algebra(stack, {k: _stacked(x, leads) for k, x in columns.items()}, algebra.arrays)
    each = {k: _parted(x, leads) for k, x in new.items()}
    each |= {k: _turned(each[k], tall) for k in like}
    rows = [{k: x[i] for k, x in each.items()} for i in range(len(xs))]
    return _turned(_parted(y, leads), tall), rows


def _turned(xs: Sequence[Array], tall: Sequence[bool]) -> list[Array]:
    return [x.mT if over else x for x, over in zip(xs, tall, strict=True)]


def _stacked(xs: Sequence[Array], leads: Sequence[tuple[int, ...]]) -> Array:
    """Arrays whose leading axes number what they hold, as one."""
    rows = zip(xs, leads, strict=True)
    return jnp.concatenate([x.reshape(math.prod(n), *x.shape[len(n) :]) for x, n in rows])


def _parted(x: Array, leads: Sequence[tuple[int, ...]]) -> list[Array]:
    found: list[Array] = []
    at = 0
    for lead in leads:
        count = math.prod(lead)
        found.append(x[at : at + count].reshape(*lead, *x.shape[1:]) if lead else x[at])
        at += count
    return found
