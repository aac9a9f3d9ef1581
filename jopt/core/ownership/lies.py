"""How an array lies on a mesh: which of the mesh's axes split which of its own.

On explicit axes the array's type says it. On automatic ones no trace can know, so there it has to
be told, see `jopt.sharding.laid_out`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec


@dataclass(frozen=True)
class Lie:
    """How one array lies.

    **Attributes:** `mesh`; `names`: the axes of it that take part, in its order: those over which
    an array is replicated, too; `over`: for each axis of the array those that split it, in order.
    """

    mesh: Mesh | AbstractMesh
    names: tuple[str, ...]
    over: tuple[tuple[str, ...], ...]

    @property
    def spec(self) -> PartitionSpec:
        """The same as jax writes it."""
        return PartitionSpec(*(names or None for names in self.over))

    def size(self, names: Sequence[str]) -> int:
        """Into how many parts these axes of the mesh split what they split."""
        return math.prod(self.mesh.shape[name] for name in names)


def lies_of(xs: Sequence[Any], told: Sequence[NamedSharding | None]) -> list[Lie | None]:
    """How each lies; `None` if it is on one device, or nobody knows.

    **Arguments:** `told`: how they lie where their types do not say it.
    """
    types = [jax.typeof(x).sharding for x in xs]
    here = jax.sharding.get_abstract_mesh()
    free = {mesh: free_names(mesh) for mesh in {own.mesh for own in types}}
    lies = []
    for x, own, by_word in zip(xs, types, told, strict=True):
        found = _lie(own.mesh, own.spec, x.ndim, free[own.mesh])
        if found is None and by_word is not None:
            mesh = by_word.mesh if here.empty else here
            # Within a `shard_map` over some axes the others are left, and these are spoken for.
            found = _lie(mesh, by_word.spec, x.ndim, _names(mesh, AxisType.Auto))
        lies.append(found)
    return lies


def free_names(mesh: AbstractMesh) -> tuple[str, ...]:
    """The explicit axes of a mesh over which no `jax.vmap` around has an axis of its own.

    That types within do not show: of an axis that is mapped away nothing is left in them. A
    `shard_map` over all axes that may be knows it.
    """
    names = _names(mesh, AxisType.Explicit)
    if not names:
        return ()
    found: list[str] = []

    def look() -> jax.Array:
        found.extend(jax.sharding.get_abstract_mesh().manual_axes)
        return jnp.zeros(())

    with jax.sharding.use_abstract_mesh(mesh):
        jax.eval_shape(jax.shard_map(look, in_specs=(), out_specs=PartitionSpec()))
    return tuple(name for name in names if name in found)


def lie_told(told: NamedSharding, ndim: int) -> Lie | None:
    """How an array lies that is told so, whichever the axes of the mesh."""
    of = told.mesh, told.spec, ndim
    by_type, by_word = (_names(told.mesh, kind) for kind in (AxisType.Explicit, AxisType.Auto))
    return _lie(*of, by_type) or _lie(*of, by_word)


def _names(mesh: Mesh | AbstractMesh, kind: AxisType) -> tuple[str, ...]:
    return tuple(n for n, k in zip(mesh.axis_names, mesh.axis_types, strict=True) if k == kind)


def _lie(mesh: Any, spec: Any, ndim: int, names: tuple[str, ...]) -> Lie | None:
    if mesh.empty:
        return None
    entries = (*spec, *(None,) * (ndim - len(spec)))
    over = tuple(tuple(n for n in names_of(entry) if n in names) for entry in entries)
    found = Lie(mesh, names, over)
    return found if found.size(names) > 1 else None


def names_of(entry: Any) -> tuple[str, ...]:
    """The mesh axes in one entry of a PartitionSpec."""
    if entry is None or entry is PartitionSpec.UNCONSTRAINED:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def parts_on(mesh: Mesh | AbstractMesh) -> Callable[[Any], int]:
    """Into how many parts an entry of a PartitionSpec splits an axis on this mesh."""
    return lambda entry: math.prod(mesh.shape[name] for name in names_of(entry))
