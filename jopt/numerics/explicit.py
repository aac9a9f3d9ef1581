"""Arrays whose very type says how they are split: those on a mesh of explicit axes.

Elsewhere the compiler finds out who needs what. Here an operation that would have to move data
is refused, and what is to move has to be said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def sharded(x: Array) -> bool:
    """Whether `x` is split by its very type: only a mesh of explicit axes puts it there."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def by_types(x: Array) -> bool:
    """Whether types say how `x` is split, but for what a `jax.vmap` around may split it by."""
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


def may_be_split(x: Array) -> bool:
    """Whether `x` is on a mesh of automatic axes: split in a way that nothing says, or not."""
    mesh = jax.typeof(x).sharding.mesh
    own = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return any(size > 1 and kind == AxisType.Auto for size, kind in own)


def laid(like: Array, *axes: int | None) -> NamedSharding | None:
    """The layout of an array whose axes run along these axes of `like`, as `out_sharding` has it.

    `None` where types say nothing.
    """
    own: NamedSharding = jax.typeof(like).sharding
    if not by_types(like):
        return None
    spec = PartitionSpec(*(None if i is None else own.spec[i] for i in axes))
    found: NamedSharding = own.update(spec=spec)
    return found


def placed(of: Array, axes: Sequence[int | None]) -> NamedSharding | None:
    """As `laid`, and for an array that is there as it lies, whatever its mesh.

    `None` for a single number.
    """
    if not axes:
        return None
    if isinstance(of, jax.core.Tracer):
        return laid(of, *axes)
    own = of.sharding
    if not isinstance(own, NamedSharding):
        return None
    entries = [*own.spec, *(None,) * (of.ndim - len(own.spec))]
    return own.update(spec=PartitionSpec(*(None if i is None else entries[i] for i in axes)))


def born(x: Array, where: NamedSharding | None) -> Array:
    """A new array as `placed` says; one that was made from what lies so may do already."""
    if where is None:
        return x
    if isinstance(x, jax.core.Tracer):
        return x if jax.typeof(x).sharding == where else jax.sharding.reshard(x, where)
    return x if x.sharding == where else jax.device_put(x, where)


def like(x: Array, sharding: NamedSharding | None) -> Array:
    """`x` in this layout, see `laid`."""
    return x if sharding is None else jax.sharding.reshard(x, sharding)


def whole(x: Array, *axes: int) -> Array:
    """`x`, these axes of it not split."""
    if all(jax.typeof(x).sharding.spec[i] is None for i in axes):
        return x
    return like(x, laid(x, *(None if i in axes else i for i in range(x.ndim))))


def on_mesh(x: Array) -> Array:
    """`x`, whole on each device of a mesh of explicit axes if there is one, and it is on none."""
    if not _explicit() or not jax.typeof(x).sharding.mesh.empty:
        return x
    placed: Array = jax.sharding.reshard(x, PartitionSpec())
    return placed


def mapped_alike(xs: Sequence[Array]) -> tuple[Array, ...]:
    """The same arrays, of one shape; over what `jax.vmap` maps one of them over, all are mapped.

    A reduction of several arrays some of which are not forgets how the others are split.
    """
    on_explicit = any(AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types for x in xs)
    if not (on_explicit or _explicit()):
        return tuple(xs)
    others: dict[int, Array] = {id(y): y for y in xs}

    def mapped(x: Array) -> Array:
        for y in others.values():
            x = x if y is x else jax.lax.select(jnp.zeros_like(y, bool), y.astype(x.dtype), x)
        return x

    return tuple(map(mapped, xs))


def zeros_of(shape: jax.ShapeDtypeStruct) -> Array:
    """Zeros as `jax.eval_shape` says, split as it says on explicit axes."""
    where = shape.sharding
    x = jnp.zeros(shape.shape, shape.dtype)
    return x if where is None or where.mesh.empty or not _explicit() else like(x, where)


def stacked(xs: Sequence[Array], axis: int = 0) -> Array:
    """`jnp.stack`, under a `jax.vmap` over what is split on explicit axes too.

    There jax does not stack what depends on the axis with what does not, but puts it end to end.
    """
    if not _explicit():
        return jnp.stack(xs, axis)
    return jnp.concatenate([jnp.expand_dims(on_mesh(x), axis) for x in xs], axis)


def _explicit() -> bool:
    """Whether the mesh that there is has explicit axes."""
    return AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types


def reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    """`x.reshape(shape)`, with one −1 at most; on explicit axes it says how the result is split.

    An axis that stays as it is, is split as before. Of those that become one, and of those that one
    becomes, the first is: where the others are split, or it cannot be, they are gathered.
    """
    own: NamedSharding = jax.typeof(x).sharding
    if -1 in shape:
        rest = -math.prod(shape)
        shape = tuple(x.size // rest if n == -1 else n for n in shape)
    if x.shape == shape:
        return x
    if not by_types(x):
        return x.reshape(shape)
    before: list[Any] = list(own.spec) if x.size else [None] * x.ndim
    after: list[Any] = [None] * len(shape)
    for old, new in _blocks(x.shape, shape) if x.size else ():
        into = [i for i in new if shape[i] > 1]
        if not into:
            continue
        first, *others = (i for i in old if x.shape[i] > 1)
        for i in others:
            before[i] = None
        if before[first] is None:
            continue
        if (others and len(into) > 1) or shape[into[0]] % _parts(own, before[first]):
            before[first] = None
        after[into[0]] = before[first]
    split = own.update(spec=PartitionSpec(*before)), own.update(spec=PartitionSpec(*after))
    return jax.lax.reshape(like(x, split[0]), shape, out_sharding=split[1])


def _parts(of: NamedSharding, entry: str | tuple[str, ...]) -> int:
    """Into how many an entry of a spec splits an axis."""
    names = (entry,) if isinstance(entry, str) else entry
    return math.prod(of.mesh.shape[name] for name in names)


def _blocks(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[range, range]]:
    """Axes of the one shape and of the other that hold the same entries, as few as can be."""
    i = j = 0
    while i < len(old) or j < len(new):
        ends, sizes = [i, j], [1, 1]
        for side, shape in enumerate((old, new)):
            if ends[side] < len(shape):
                sizes[side] = shape[ends[side]]
                ends[side] += 1
        while sizes[0] != sizes[1]:
            side = int(sizes[1] < sizes[0])
            sizes[side] *= (old, new)[side][ends[side]]
            ends[side] += 1
        yield range(i, ends[0]), range(j, ends[1])
        i, j = ends
