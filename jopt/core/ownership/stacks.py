"""What is kept beside matrices, in one array a class, on the devices that own them.

Nothing of it moves in a step. Which matrix is in which row follows from a `Deal`, and so its array
is read off, and a stack is put together from one array a matrix, as files have them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import DictKey

from jopt.core.offloaded import brought_in, put_back
from jopt.core.ownership.classes import Class, Member, classes_of
from jopt.core.ownership.lies import Lie, names_of
from jopt.core.stack import Stack

Path = tuple[str, ...]
Shape = tuple[int, ...]
Sizes = tuple[tuple[str, int], ...]

KEY = "owned"
"""The entry of a node that has stacks: `{group: {class: {slot: OwnedStack}}}`."""


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


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class OwnedStack:
    """A slot of all matrices of a class: `array`, whose first axis numbers them as `deal` says.

    `like`: whether it is like the matrix, and turned over with it.
    """

    array: Any
    deal: Deal
    like: bool

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """See `jax.tree_util`."""
        return ((DictKey("stack"), self.array),), (self.deal, self.like)

    def tree_flatten(self) -> tuple[Any, Any]:
        """See `jax.tree_util`."""
        return (self.array,), (self.deal, self.like)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> OwnedStack:
        """See `jax.tree_util`."""
        return cls(*children, *aux)

    def apart(self) -> dict[Path, Any]:
        """One array a parameter, by its path; shapes, where it has only a shape."""
        x, deal = brought_in(self.array), self.deal
        paths = [owner.path for owner in deal.owners]
        own = on_mesh(x)
        found: list[Any]
        if isinstance(x, jax.ShapeDtypeStruct):
            shapes = deal.shape_of(x.shape[1:], like=self.like)
            found = [
                jax.ShapeDtypeStruct(s, x.dtype, sharding=own and own.update(spec=spec))
                for s, spec in shapes
            ]
        elif isinstance(x, np.ndarray):
            found = [np.asarray(part) for part in deal.parts(x, like=self.like)]
        else:
            found = _apart(deal, self.like, own, tuple(x.shape[1:]))(x)
        return dict(zip(paths, found, strict=True))

    @classmethod
    def of(cls, xs: Mapping[Path, Any], deal: Deal, like: bool, mesh: Any) -> OwnedStack:
        """A stack of these, by path, on the devices of this mesh, if they are known."""
        own = None if mesh is None or mesh.empty else NamedSharding(mesh, deal.spec)
        rows = [xs[owner.path] for owner in deal.owners]
        if all(isinstance(x, jax.ShapeDtypeStruct) for x in rows):
            made = jax.eval_shape(functools.partial(deal.together, like=like), rows)
            return cls(jax.ShapeDtypeStruct(made.shape, made.dtype, sharding=own), deal, like)
        return cls(_together(deal, like, own)(rows), deal, like)

    def filled(self, xs: Mapping[Path, Any]) -> OwnedStack:
        """The same with these in it, by path, lying as it does."""
        own = on_mesh(self.array)
        made = self.of(xs, self.deal, self.like, own and own.mesh)
        return replace(made, array=put_back(made.array, self.array))


@functools.lru_cache(maxsize=256)
def _apart(deal: Deal, like: bool, own: NamedSharding | None, of: Shape) -> Any:
    """From a stack to its parts, compiled for where it lies."""
    if own is None:
        return jax.jit(functools.partial(deal.parts, like=like))
    where = [own.update(spec=spec) for _, spec in deal.shape_of(of, like=like)]

    def run(x: Array) -> list[Array]:
        return deal.parts(_by_rows(deal, own, x, 1), like=like)

    return _placed(run, own, where)


@functools.lru_cache(maxsize=256)
def _together(deal: Deal, like: bool, own: NamedSharding | None) -> Any:
    if own is None:
        return jax.jit(functools.partial(deal.together, like=like))

    def run(xs: Sequence[Array]) -> Array:
        return deal.together(xs, like=like, lay=lambda x: _by_rows(deal, own, x, 2))

    return _placed(run, own, own.update(spec=deal.spec))


def _by_rows(deal: Deal, own: NamedSharding, x: Array, lead: int) -> Array:
    """`x`, of each matrix some rows on each device: there in one exchange, and cut up for free."""
    split = x.ndim > lead and x.shape[lead] % deal.cls.devices == 0
    entries = (deal.cls.stay or None, *(None,) * (lead - 1), *((deal.cls.names,) if split else ()))
    spec = PartitionSpec(*entries)
    said = spec if AxisType.Explicit in own.mesh.axis_types else own.update(spec=spec)
    laid: Array = jax.lax.with_sharding_constraint(x, said)
    return laid


def _placed(f: Any, own: NamedSharding, where: Any) -> Any:
    """`f`, compiled so that its results lie so, on a mesh of whichever axes."""
    if AxisType.Explicit in own.mesh.axis_types:
        f = jax.sharding.auto_axes(f, out_sharding=where)
    return jax.jit(f, out_shardings=where) if isinstance(own.mesh, Mesh) else f


def on_mesh(x: Any) -> NamedSharding | None:
    """How an array lies, if it is on a mesh whose devices are known or whose axes its type says."""
    own = jax.typeof(x).sharding if isinstance(x, jax.core.Tracer) else getattr(x, "sharding", None)
    if not isinstance(own, NamedSharding) or own.mesh.empty:
        return None
    return own if isinstance(own.mesh, Mesh) or AxisType.Explicit in own.mesh.axis_types else None


def over_of(spec: Any, ndim: int, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """For each axis those of these mesh axes that split it."""
    entries = (*spec, *(None,) * (ndim - len(spec)))
    return tuple(tuple(n for n in names_of(entry) if n in names) for entry in entries)


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _unzipped(sizes: Sizes) -> tuple[Shape, Path]:
    return tuple(n for _, n in sizes), tuple(name for name, _ in sizes)
