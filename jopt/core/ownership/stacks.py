"""What is kept beside matrices, in one array a class, on the devices that own them.

Nothing of it moves in a step. Which matrix is in which row follows from a `Deal`, and so its array
is read off, and a stack is put together from one array a matrix, as files have them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import DictKey

from jopt.core.offloaded import brought_in, put_back
from jopt.core.ownership.deals import Deal

Path = tuple[str, ...]
Shape = tuple[int, ...]

KEY = "owned"
"""The entry of a node that has stacks: `{group: {class: {slot: OwnedStack}}}`."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class OwnedStack:
    """A slot of all matrices of a class: `array`, whose first axis numbers them as `deal` says.

    `like`: whether it is like the matrix, and turned over with it; `turned`: what slot it is of a
    matrix that is turned over, if another.
    """

    array: Any
    deal: Deal
    like: bool
    turned: str | None = None

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """See `jax.tree_util`."""
        return ((DictKey("stack"), self.array),), (self.deal, self.like, self.turned)

    def tree_flatten(self) -> tuple[Any, Any]:
        """See `jax.tree_util`."""
        return (self.array,), (self.deal, self.like, self.turned)

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> OwnedStack:
        """See `jax.tree_util`."""
        return cls(*children, *aux)

    def paths(self, slot: str) -> list[Path]:
        """The name of the slot and the path of each parameter, where this is the class's slot."""
        names = self.deal.names(slot, self.turned)
        return [(name, *x.path) for name, x in zip(names, self.deal.owners, strict=True)]

    def apart(self, slot: str) -> dict[Path, Any]:
        """One array a parameter, by `paths`; shapes, where it has only a shape."""
        x, deal = brought_in(self.array), self.deal
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
        return dict(zip(self.paths(slot), found, strict=True))

    @classmethod
    def of(
        cls, rows: Sequence[Any], deal: Deal, like: bool, mesh: Any, turned: str | None = None
    ) -> OwnedStack:
        """A stack of these, one for each owner, on the devices of this mesh, if they are known."""
        own = None if mesh is None or mesh.empty else NamedSharding(mesh, deal.spec)
        if all(isinstance(x, jax.ShapeDtypeStruct) for x in rows):
            made = jax.eval_shape(functools.partial(deal.together, like=like), rows)
            shape = jax.ShapeDtypeStruct(made.shape, made.dtype, sharding=own)
            return cls(shape, deal, like, turned)
        return cls(_together(deal, like, own)(rows), deal, like, turned)

    def filled(self, rows: Sequence[Any]) -> OwnedStack:
        """The same with these in it, lying as it does."""
        own = on_mesh(self.array)
        made = self.of(rows, self.deal, self.like, own and own.mesh, self.turned)
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
