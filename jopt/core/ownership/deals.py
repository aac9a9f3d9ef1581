"""Which matrix is in which row of a stack, and a stack's rows as arrays of each parameter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AbstractMesh, PartitionSpec

from jopt.core.ownership.classes import Class, Member, classes_of
from jopt.core.ownership.lies import Lie, names_of
from jopt.core.stack import Stack

Path = tuple[str, ...]
Shape = tuple[int, ...]
Sizes = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Owner:
    """A parameter whose matrices are in a stack.

    **Attributes:** `path`: the parameter's; `shape`: of the array of its matrices, behind axes that
    number them; `spec`: how that lies; `stack`: how the leaf holds them, if it is not that array,
    and `leaf`, how the leaf lies.
    """

    path: Path
    shape: Shape
    spec: PartitionSpec
    leaf: PartitionSpec
    stack: Stack | None


@dataclass(frozen=True)
class Deal:
    """Which parameters' matrices are in a stack, and which device has which.

    **Attributes:** `owners`; `mesh`: the sizes of the mesh axes that take part, in its order;
    `alike`: whether tall matrices are turned over.
    """

    owners: tuple[Owner, ...]
    mesh: Sizes
    alike: bool

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.owners, self.mesh, self.alike))

    def on(self, mesh: Any, dtype: Any = None) -> Class:
        """The class of its matrices on this mesh, whose members are its owners by number."""
        names = tuple(name for name, _ in self.mesh)
        own = [jax.ShapeDtypeStruct(x.shape, dtype or jnp.float32) for x in self.owners]
        lies = [Lie(mesh, names, over_of(x.spec, len(x.shape), names)) for x in self.owners]
        (found,) = classes_of(own, lies, alike=self.alike)
        return found

    @functools.cached_property
    def cls(self) -> Class:
        """The same where only the sizes of the mesh matter."""
        return self.on(AbstractMesh(*_unzipped(self.mesh)))

    @property
    def spec(self) -> PartitionSpec:
        """How a stack lies."""
        return PartitionSpec((*self.cls.stay, *self.cls.names))

    @property
    def rows(self) -> int:
        """How many matrices there is room for."""
        return self._blocks * self.cls.devices * self.cls.share

    @property
    def _blocks(self) -> int:
        return self.cls.lie.size(self.cls.stay)

    def parts(self, x: Any, *, like: bool) -> list[Any]:
        """Each owner's array, from a stack of which no mesh axis splits the first one."""
        cls = self.cls
        rest = x.shape[1:]
        x = x.reshape(self._blocks, cls.devices, cls.share, *rest).swapaxes(1, 2)
        x = x.reshape(*(cls.lie.size((n,)) for n in cls.stay), -1, *rest)
        found: dict[int, Any] = {}
        at = 0
        for member in cls.members:
            one = x[(slice(None),) * len(cls.stay) + (slice(at, at + member.count),)]
            one = one.reshape(*x.shape[: len(cls.stay)], *member.lead, *rest)
            one = one.transpose(self._woven(member, len(rest)))
            lead = self.owners[member.index].shape[: len(member.lead)]
            one = one.reshape(*lead, *rest)
            found[member.index] = one.swapaxes(-1, -2) if like and member.turned else one
            at += member.count
        return [self._held(i, found[i], like) for i in range(len(found))]

    def together(
        self, xs: Sequence[Any], *, like: bool, lay: Callable[[Any], Any] = lambda x: x
    ) -> Array:
        """The stack of these, in the order of its owners; places without a matrix hold zeros.

        `lay` says on the way how what is numbered by its first two axes is to lie.
        """
        cls = self.cls
        rows: list[Array] = []
        for member in cls.members:
            owner, n = self.owners[member.index], len(member.lead)
            x = jnp.asarray(xs[member.index])
            x = owner.stack.apart(x) if like and owner.stack is not None else x
            x = x.swapaxes(-1, -2) if like and member.turned else x
            rest = x.shape[n:]
            split = [cls.lie.size((name,)) for name in cls.stay]
            order = self._woven(member, len(rest))
            sizes = (*split, *member.lead, *rest)
            x = x.reshape([sizes[i] for i in order]).transpose(_inverse(order))
            rows.append(lay(x.reshape(self._blocks, member.count, *rest)))
        spare = cls.share * cls.devices - cls.count
        if spare:
            rows.append(jnp.zeros((self._blocks, spare, *rows[0].shape[2:]), rows[0].dtype))
        x = lay(jnp.concatenate(rows, 1))
        x = x.reshape(self._blocks, cls.share, cls.devices, *x.shape[2:]).swapaxes(1, 2)
        stack: Array = x.reshape(-1, *x.shape[3:])
        return stack

    def shape_of(self, of: Shape, *, like: bool) -> Iterator[tuple[Shape, PartitionSpec]]:
        """The shape of each owner's array, of a slot of this shape, and how it is to lie."""
        split = bool(of) and of[0] % self.cls.devices == 0
        for owner, member in zip(self.owners, self._by_owner, strict=True):
            n = len(member.lead)
            lead = (*owner.spec, *(None,) * n)[:n]
            if not like:
                over = ((self.cls.names,) if split else (None,)) if of else ()
                yield (*owner.shape[:n], *of), PartitionSpec(*lead, *over)
            else:
                yield owner.shape if owner.stack is None else owner.stack.shape, owner.leaf

    def _held(self, i: int, x: Any, like: bool) -> Any:
        stack = self.owners[i].stack
        return x if stack is None or not like else stack.together(x)

    def names(self, slot: str, turned: str | None) -> list[str]:
        """What each owner calls a slot of the class, where this is its name turned over."""
        return [(turned or slot) if member.turned else slot for member in self._by_owner]

    @functools.cached_property
    def _by_owner(self) -> list[Member]:
        return sorted(self.cls.members, key=lambda m: m.index)

    def _woven(self, member: Member, rest: int) -> tuple[int, ...]:
        """From the mesh axes that split leading axes, these and the rest, to each axis as it is."""
        stay, n = self.cls.stay, len(member.lead)
        order: list[int] = []
        for axis in range(n):
            over = member.lie.over[axis]
            order += [*(stay.index(name) for name in over), len(stay) + axis]
        return (*order, *range(len(stay) + n, len(stay) + n + rest))


def over_of(spec: Any, ndim: int, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """For each axis those of these mesh axes that split it."""
    entries = (*spec, *(None,) * (ndim - len(spec)))
    return tuple(tuple(n for n in names_of(entry) if n in names) for entry in entries)


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _unzipped(sizes: Sizes) -> tuple[Shape, Path]:
    return tuple(n for _, n in sizes), tuple(name for name, _ in sizes)
