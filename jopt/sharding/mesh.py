"""The mesh that parameters live on, and the sharding of each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jopt.base import ConfigError, TreeError
from jopt.core.boxes import Box, spec_of
from jopt.core.places import Place
from jopt.core.spec import Shape
from jopt.core.tree import Layout

FIX = "Place the parameters with jax.device_put(params, NamedSharding(mesh, ...)), or give mesh=."


def param_shardings(
    who: str, layout: Layout, params: Sequence[Any], mesh: Mesh | None
) -> tuple[Mesh, list[NamedSharding]]:
    """The one mesh of the parameters, and the sharding of each.

    One that is on no mesh is split as its box says, and replicated without a box. Shapes that
    come from a trace name their mesh without its devices: `mesh` gives them.
    """
    if mesh is not None and not isinstance(mesh, Mesh | AbstractMesh):
        raise ConfigError(who, "this is no mesh", expected="a Mesh", found=repr(mesh)[:200])
    found = [_named(who, path, x) for path, x in zip(layout.names, params, strict=True)]
    if mesh is None:
        known = (s.mesh for s in found if s is not None and isinstance(s.mesh, Mesh))
        mesh = next(known, None)
    if mesh is None:
        raise TreeError(
            who,
            "no parameter is placed on a mesh",
            expected="at least one leaf with a NamedSharding over devices",
            found=f"none among {len(found)}",
            fix=FIX,
        )
    for path, sharding in zip(layout.names, found, strict=True):
        if sharding is not None and not _same(sharding.mesh, mesh):
            raise TreeError(
                who,
                "a parameter is placed on another mesh than the rest",
                path=path,
                expected=_shown(mesh),
                found=_shown(sharding.mesh),
            )
    boxes = layout.boxes or ((),) * len(found)
    told = [
        _told(who, path, box, x, mesh) if s is None and box else s
        for path, box, x, s in zip(layout.names, boxes, params, found, strict=True)
    ]
    return mesh, [_on(mesh, s) for s in told]


def _told(who: str, path: str, box: Box, x: Any, mesh: Mesh) -> NamedSharding | None:
    """The sharding that a parameter's box names."""
    spec = spec_of(box, x)
    try:
        return None if spec is None else NamedSharding(mesh, spec)
    except ValueError:
        raise TreeError(
            who,
            "a parameter's box names axes that the mesh does not have",
            path=path,
            expected=_shown(mesh),
            found=spec,
            fix="Of logical axes the rules are wanted: with flax.linen.logical_axis_rules(...).",
        ) from None


def _on(mesh: Mesh, sharding: NamedSharding | None) -> NamedSharding:
    if sharding is None:
        return NamedSharding(mesh, PartitionSpec())
    if isinstance(sharding.mesh, Mesh):
        return sharding
    return NamedSharding(mesh, sharding.spec, memory_kind=sharding.memory_kind)


def along(sharding: NamedSharding, place: Place, shape: Shape, of: Shape) -> NamedSharding:
    """The sharding of an array of `shape` at `place`, of a parameter of shape `of`.

    Raises `ValueError(axis, length, grain)` where a shard would end inside a block.
    """
    plain = max(place.grain, default=1) == 1
    if plain and shape == of and place.axes == tuple(range(len(of))):
        return sharding
    entries = _entries(sharding, of)
    chosen = [None if axis is None else entries[axis] for axis in place.axes]
    if place.spread is not None:
        taken = {name for entry in chosen for name in names_in(entry)}
        chosen[place.spread] = tuple(n for n in sharding.mesh.axis_names if n not in taken) or None
    for i, size in enumerate(shape):
        parts = math.prod(sharding.mesh.shape[name] for name in names_in(chosen[i]))
        if size % parts:  # a codec's blocks need not divide evenly
            chosen[i] = None
        elif size // parts % grain(place, i) and parts > 1:
            raise ValueError(i, size // parts, grain(place, i))
    return sharding.update(spec=PartitionSpec(*chosen))


def grain(place: Place, axis: int) -> int:
    """How many entries of an array along this axis stay on one device."""
    return place.grain[axis] if place.grain else 1


def split(sharding: NamedSharding, axis: str, shape: Shape, place: Place) -> NamedSharding:
    """Also over `axis`, on the first dimension that it divides and nothing splits yet."""
    entries = _entries(sharding, shape)
    if any(axis in names_in(entry) for entry in entries):
        return sharding
    parts = sharding.mesh.shape[axis]
    for i, size in enumerate(shape):
        if entries[i] is None and size and size % (parts * grain(place, i)) == 0:
            return sharding.update(spec=PartitionSpec(*entries[:i], axis, *entries[i + 1 :]))
    return sharding


def _entries(sharding: NamedSharding, shape: Shape) -> list[Any]:
    return [*sharding.spec, *(None,) * (len(shape) - len(sharding.spec))]


def names_in(entry: Any) -> tuple[str, ...]:
    """The mesh axes in one entry of a PartitionSpec."""
    if entry is None or entry is PartitionSpec.UNCONSTRAINED:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _named(who: str, path: str, x: Any) -> NamedSharding | None:
    sharding = getattr(x, "sharding", None)
    if isinstance(sharding, NamedSharding):
        return None if sharding.mesh.empty else sharding
    if sharding is None or isinstance(sharding, SingleDeviceSharding):
        return None
    raise TreeError(
        who,
        "a parameter has a sharding without a mesh",
        path=path,
        expected="a NamedSharding",
        found=type(sharding).__name__,
        fix=FIX,
    )


def _same(a: Mesh | AbstractMesh, b: Mesh) -> bool:
    return a == b if isinstance(a, Mesh) else dict(a.shape) == dict(b.shape)


def _shown(mesh: Mesh | AbstractMesh) -> str:
    axes = ", ".join(f"{name}: {size}" for name, size in mesh.shape.items())
    ids = [d.id for d in mesh.devices.flat] if isinstance(mesh, Mesh) else []
    return f"mesh ({axes})" + (f" of devices {ids}" if ids else "")
