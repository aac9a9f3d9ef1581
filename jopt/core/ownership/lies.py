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


def lie_of(x: Any, told: NamedSharding | None = None) -> Lie | None:
    """How `x` lies; `None` if it is on one device, or nobody knows.

    **Arguments:** `told`: how it lies where its type does not say it.
    """
    own = jax.typeof(x).sharding
    found = _lie(own.mesh, own.spec, x.ndim, AxisType.Explicit)
    if found is None and told is not None:
        here = jax.sharding.get_abstract_mesh()
        mesh = told.mesh if here.empty else here
        # Within a `shard_map` over some axes the others are left, and these are spoken for.
        found = _lie(mesh, told.spec, x.ndim, AxisType.Auto)
    return found


def lie_told(told: NamedSharding, ndim: int) -> Lie | None:
    """How an array lies that is told so, whichever the axes of the mesh."""
    of = told.mesh, told.spec, ndim
    return _lie(*of, AxisType.Explicit) or _lie(*of, AxisType.Auto)


def _lie(mesh: Any, spec: Any, ndim: int, kind: AxisType) -> Lie | None:
    if mesh.empty:
        return None
    names = tuple(n for n, k in zip(mesh.axis_names, mesh.axis_types, strict=True) if k == kind)
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
