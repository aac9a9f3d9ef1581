"""Who owns which matrix: matrices of one class, in the order in which devices take them.

A class is what can be one stack: one shape (or with it the transposed one), one dtype, one mesh,
and the same mesh axes along which leaves hold their matrices apart already, such as those of a
pipeline or of experts: over these nothing moves. Its matrices are dealt to the devices of all
other axes, one each in turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jopt.core.ownership.lies import Lie

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Member:
    """One array and the matrices that it holds.

    **Attributes:** `index`: which array; `lie`: how it lies; `lead`: the sizes of its leading
    axes, which number its matrices, on one device; `turned`: whether its matrices are those of
    the class turned over.
    """

    index: int
    lie: Lie
    lead: Shape
    turned: bool

    @property
    def over(self) -> tuple[tuple[str, ...], ...]:
        """The mesh axes that split each axis of a matrix, as the class has it."""
        own = self.lie.over[len(self.lead) :]
        return own[::-1] if self.turned else own

    @property
    def count(self) -> int:
        """How many matrices a device has a part of."""
        return math.prod(self.lead)


@dataclass(frozen=True)
class Class:
    """Matrices that are one stack.

    **Attributes:** `shape`, `dtype`: of a matrix; `lie`: of one of its members, for the mesh;
    `stay`: the mesh axes over which nothing moves; `beyond`, `within`: all others, which split
    no matrix and some matrix of the class; `members`; `team`: how many devices have the same
    matrix, of those that are left when all devices have as many.
    """

    shape: Shape
    dtype: Any
    lie: Lie
    stay: tuple[str, ...]
    beyond: tuple[str, ...]
    within: tuple[str, ...]
    members: tuple[Member, ...]
    team: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The mesh axes whose devices own the matrices, in the order in which these are dealt."""
        return (*self.beyond, *self.within)

    def beside(self, shape: Shape) -> Class:
        """The same matrices' arrays of this shape, each lying as `Place.spread` says."""
        own = tuple(name for name in self.lie.names if name not in self.stay)
        split = bool(shape) and shape[0] % self.devices == 0
        over = (own if split else (), *((),) * (len(shape) - 1))[: len(shape)]
        members = tuple(
            replace(m, lie=replace(m.lie, over=(*m.lie.over[: len(m.lead)], *over)), turned=False)
            for m in self.members
        )
        return replace(self, shape=shape, beyond=(), within=self.names, members=members)

    @property
    def devices(self) -> int:
        """Among how many devices its matrices are dealt out."""
        return self.lie.size(self.names)

    @property
    def count(self) -> int:
        """How many matrices there are to deal out."""
        return sum(member.count for member in self.members)

    @property
    def share(self) -> int:
        """How many of them each device has a place for."""
        return -(-self.count // self.devices)

    @property
    def places(self) -> np.ndarray[Any, Any]:
        """Which matrix is in each place of each device, `(share, devices)`; −1 where none is."""
        full = self.count - self.count % self.devices
        last = np.repeat(np.arange(full, self.count), self.team)
        spare = np.full(self.share * self.devices - full - len(last), -1)
        return np.concatenate([np.arange(full), last, spare]).reshape(self.share, self.devices)


def classes_of(arrays: Sequence[Any], lies: Sequence[Lie], *, alike: bool) -> list[Class]:
    """The classes of these arrays, whose last two axes are a matrix.

    **Arguments:** `alike`: whether a matrix and its transpose may be of one class; those of a
    class are then the wide ones, no longer than wide, and tall members are turned over.
    """
    found: dict[Any, list[Member]] = {}
    for i, (x, lie) in enumerate(zip(arrays, lies, strict=True)):
        *lead, m, n = x.shape
        turned = alike and m > n
        shape = (n, m) if turned else (m, n)
        first = lie.over[: len(lead)]
        stay = tuple(name for name in lie.names if any(name in names for names in first))
        mine = tuple(size // lie.size(names) for size, names in zip(lead, first, strict=True))
        key = shape, x.dtype, lie.mesh, lie.names, stay
        found.setdefault(key, []).append(Member(i, lie, mine, turned))
    return [_class(key, members) for key, members in found.items()]


def _class(key: tuple[Any, ...], members: list[Member]) -> Class:
    shape, dtype, _, names, stay = key
    # Those that lie alike side by side: what is put together in one way is one operation.
    ordered = sorted(members, key=lambda m: (m.over, m.index))
    taken = {name for member in members for names in member.over for name in names}
    own = [name for name in names if name not in stay]
    beyond = tuple(name for name in own if name not in taken)
    within = tuple(name for name in own if name in taken)
    lie = replace(members[0].lie, over=())
    return Class(shape, dtype, lie, stay, beyond, within, tuple(ordered))
