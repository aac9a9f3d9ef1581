"""Arrays whose very type says how they are split: those on a mesh of explicit axes.

Elsewhere the compiler finds out who needs what. Here an operation that would have to move data
is refused, and what is to move has to be said.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def sharded(x: Array) -> bool:
    """Whether `x` is split by its very type: only a mesh of explicit axes puts it there."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def laid(like: Array, *axes: int | None) -> NamedSharding | None:
    """The layout of an array whose axes run along these axes of `like`, as `out_sharding` has it.

    `None` where types say nothing.
    """
    own: NamedSharding = jax.typeof(like).sharding
    if AxisType.Explicit not in own.mesh.axis_types:
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
