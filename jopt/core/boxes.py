"""Flax's boxes: containers of one value that say how its axes are to be split on a mesh.

Linen's are `AxisMetadata`, such as `Partitioned`; nnx's are its `Variable`s. A leaf in a box is
called as the box is, not `bias/value`, and the parts of a transform never see a box: what a
slot shares with its parameter's box is put on the slot at the doors of a `Transform`, and taken
off there. flax is never imported here: without it there are no boxes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import PyTreeDef

Box = tuple[PyTreeDef, ...]
"""The boxes around a leaf from the outermost on, each as the structure of one around a leaf."""

METADATA = "flax.core.meta", "AxisMetadata"
VARIABLE = "flax.nnx.variablelib", "Variable"
"""The classes of boxes, by module and name."""

SPLITS = ("out_sharding", "optimizer_sharding")
"""Where a `Variable` says how it is split: itself, and what an optimizer keeps for it."""


def is_box(x: Any) -> bool:
    """Whether `x` is of one of the classes of boxes."""
    return isinstance(x, _kinds())


def opened(x: Any) -> tuple[Any, PyTreeDef] | None:
    """What is in a box, and the box without it; `None` if `x` is no box."""
    if not is_box(x):
        return None
    inside, treedef = jax.tree.flatten(x, is_leaf=lambda y: y is not x)
    return (inside[0], treedef) if len(inside) == 1 and inside[0] is not x else None


def bare(x: Any) -> Any:
    """`x`, out of its boxes."""
    if isinstance(x, jax.Array):  # nearly always
        return x
    while (inside := opened(x)) is not None:
        x, _ = inside
    return x


def closed(box: Box, x: Any, axes: Sequence[int | None] = (), shape: Any = None) -> Any:
    """`x` in boxes like those of a parameter, as far as these say something of it.

    **Arguments:**

    - `box`: the parameter's.
    - `axes`, `shape`: for each axis of `x` the parameter's axis that it runs along, or `None`,
      and the shape of the parameter. An axis of another length is not split as the parameter's
      is. Without a shape, `x` is like the parameter.
    """
    if shape is None or (tuple(axes), tuple(x.shape)) == (tuple(range(len(shape))), shape):
        for treedef in reversed(box):
            x = treedef.unflatten([x])
        return x
    pairs = zip(axes, x.shape, strict=True)
    shared = [None if a is None or n != shape[a] else a for a, n in pairs]
    if all(a is None for a in shared):
        return x
    for treedef in reversed(box):
        around = treedef.unflatten([x])
        x = _turned(around, shared, len(shape), x)
    return x


def taken_off(tree: Any) -> tuple[Any, dict[tuple[str, ...], Box]]:
    """A nested dict without boxes around its leaves, and those that were there, by path."""
    boxes: dict[tuple[str, ...], Box] = {}
    if not (kinds := _kinds()):
        return tree, boxes

    def walk(node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, dict):
            return {k: walk(v, (*path, k)) for k, v in node.items()}
        while isinstance(node, kinds) and (inside := opened(node)) is not None:
            node, around = inside
            boxes[path] = (*boxes.get(path, ()), around)
        return node

    plain = walk(tree, ())
    return (plain if boxes else tree), boxes


def put_on(tree: Any, boxes: Mapping[tuple[str, ...], Box], path: tuple[str, ...] = ()) -> Any:
    """A nested dict with these boxes around the leaves at these paths."""
    if not boxes:
        return tree
    if path in boxes:
        return closed(boxes[path], tree)
    if not isinstance(tree, dict):
        return tree
    return {k: put_on(v, boxes, (*path, k)) for k, v in tree.items()}


def spec_of(box: Box, x: Any) -> PartitionSpec | None:
    """How boxes say that their value `x` is to be split, by flax's own rules."""
    for treedef in reversed(box):
        x = treedef.unflatten([x])
        if _is(x, VARIABLE):
            spec = sys.modules["flax.nnx.spmd"].get_var_pspec(x)
        else:
            spec = x.get_partition_spec() if hasattr(x, "get_partition_spec") else None
            if spec is not None and hasattr(x, "rules"):  # of logical axes
                rules = sys.modules["flax.linen.spmd"]
                spec = rules.logical_to_mesh_axes(tuple(spec), x.rules)
        if spec:
            return PartitionSpec(*spec)
    return None


def _turned(around: Any, axes: Sequence[int | None], n: int, x: Any) -> Any:
    """A box around something with other axes; what does not tell its axes is left away."""
    if _is(around, VARIABLE):
        told = {k: around.get_metadata(k) for k in SPLITS if around.has_metadata(k)}
        if told:
            around.set_metadata(**{k: _chosen(v, axes, n) for k, v in told.items()})
        return around
    if dataclasses.is_dataclass(around) and hasattr(around, "names"):
        return dataclasses.replace(around, names=_chosen(around.names, axes, n))  # type: ignore[type-var]
    return x


def _chosen(split: Any, axes: Sequence[int | None], n: int) -> Any:
    """The entries of these axes of a parameter with `n`, in whichever form they come."""
    if isinstance(split, NamedSharding):
        return split.update(spec=_chosen(split.spec, axes, n))
    if not isinstance(split, tuple | list | PartitionSpec):  # none, or one with a memory layout
        return _chosen(split.sharding, axes, n) if hasattr(split, "sharding") else split
    entries = [*split, *(None,) * (n - len(split))]
    chosen = [None if a is None else entries[a] for a in axes]
    return PartitionSpec(*chosen) if isinstance(split, PartitionSpec) else tuple(chosen)


def _is(x: Any, kind: tuple[str, str]) -> bool:
    return isinstance(x, _kinds(kind))


def _kinds(*kinds: tuple[str, str]) -> tuple[type, ...]:
    wanted = kinds or (METADATA, VARIABLE)
    found = (getattr(sys.modules.get(module), name, None) for module, name in wanted)
    return tuple(kind for kind in found if isinstance(kind, type))
