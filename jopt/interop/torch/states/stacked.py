"""Leaves that torch has layer by layer: leaves of their own on the way to torch and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import CheckpointError, ConfigError
from jopt.core.axes import stack_of
from jopt.core.nested import has, lookup, nest
from jopt.core.paths import Path, shown
from jopt.core.spec import Slot
from jopt.core.stack import fitted
from jopt.core.transform import Node, State
from jopt.core.tree import Layout
from jopt.interop.torch.states.places import Names
from jopt.interop.torch.states.slots import like
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.weights import Ordered, Unordered, Weight, layer_of

Layer = tuple[int, ...]
ALL = slice(None)
FIX = (
    "Name torch's parameters by a pattern, names={path: Weight('layers.{}.weight', axes)}, and "
    "let axes= say only which leading axes number the layers; or split the stacks into leaves."
)


@dataclass(frozen=True)
class Split(Target):
    """A target whose stacked leaves are leaves of their own, one for each layer.

    **Attributes:** `whole`: the target as it is; `at`: for each leaf the one of `whole` that it is
    of, and which of its layers.
    """

    whole: Target = None  # type: ignore[assignment]
    at: tuple[tuple[int, Layer], ...] = ()

    def node(self, state: State) -> Node:
        """Its node in a state, its slots layer by layer."""
        node = dict(self.whole.node(state))
        for slot in self.part.slots:
            node[slot.name] = self.parted(node[slot.name], slot)
        if "leaf_count" in node:
            node["leaf_count"] = self._apart(node["leaf_count"], lambda i, layer, n: n)
        return node

    def put(self, state: State, node: Node, keys: tuple[str, ...] | None = None) -> State:
        """The state with another node in its place, the layers of each leaf together."""
        if keys is not None:  # the node of another part
            return self.whole.put(state, node, keys)
        old, node = self.whole.node(state), dict(node)
        for slot in self.part.slots:
            node[slot.name] = self.joined(node[slot.name], old[slot.name], slot)
        if "leaf_count" in node:
            counts = self._filled(node["leaf_count"], node["count"])
            node["leaf_count"] = self._together(counts, lambda i, n: self._one(i, "step", n))
        return self.whole.put(state, node)

    def path(self, leaf: int) -> Path:
        """See `Target.path`."""
        return self.whole.layout.paths[self.at[leaf][0]]

    def parted(self, tree: Any, slot: Slot | None = None) -> Any:
        """See `Target.parted`; of a slot where it has one."""

        def one(i: int, layer: Layer, stored: Any) -> Any:
            at = {a: n for a, n in zip(self._axes(i, slot), layer, strict=True) if a is not None}
            if not at:
                return stored
            return jax.tree.map(lambda x: x[tuple(at.get(a, ALL) for a in range(x.ndim))], stored)

        return self._apart(tree, one)

    def joined(self, tree: Any, old: Any, slot: Slot | None = None) -> Any:
        """See `Target.joined`; of a slot where it has one."""

        def one(i: int, layers: list[Any]) -> Any:
            axes = self._axes(i, slot)
            if not axes:
                return layers[0]
            into = [a for a in axes if a is not None]
            if len(into) < len(axes):
                return self._one(i, "" if slot is None else slot.name, layers)
            before = lookup(old, self.whole.layout.paths[i])
            sizes = self.whole.params[i].shape[: len(into)]

            def stacked(x: Any, *xs: Any) -> Any:
                made = jnp.stack(xs).reshape(*sizes, *xs[0].shape)
                return like(jnp.moveaxis(made, range(len(into)), into), x)

            return jax.tree.map(stacked, before, *layers)

        return self._together(tree, one)

    def _apart(self, tree: Any, one: Callable[[int, Layer, Any], Any]) -> Any:
        found = {}
        for path, (i, layer) in zip(self.layout.paths, self.at, strict=True):
            if has(tree, own := self.whole.layout.paths[i]):
                found[path] = one(i, layer, lookup(tree, own))
        return nest(found, found.values())

    def _together(self, tree: Any, one: Callable[[int, list[Any]], Any]) -> Any:
        layers: dict[int, list[Any]] = {}
        for path, (i, _) in zip(self.layout.paths, self.at, strict=True):
            if has(tree, path):
                layers.setdefault(i, []).append(lookup(tree, path))
        return nest([self.whole.layout.paths[i] for i in layers], [one(*x) for x in layers.items()])

    def _axes(self, i: int, slot: Slot | None) -> list[int | None]:
        """The axes of a slot along which layers are numbered; `None` where it has one for all."""
        depth = len(next(layer for of, layer in self.at if of == i))
        if slot is None:
            return [*range(depth)]
        stack = self.part.stacks(self.whole.layout, self.whole.params).get(i)
        shape = tuple(self.whole.params[i].shape)
        axes = fitted(slot, stack).axes_for(shape, self.part.options)
        return [axes.index(a) if a in axes else None for a in range(depth)]

    def _filled(self, counts: Any, count: Any) -> Any:
        """Counts of all layers of a leaf, where one layer has a count of its own."""
        own = {i for p, (i, _) in zip(self.layout.paths, self.at, strict=True) if has(counts, p)}
        paths = [p for p, (i, _) in zip(self.layout.paths, self.at, strict=True) if i in own]
        return nest(paths, [lookup(counts, p) if has(counts, p) else count for p in paths])

    def _one(self, i: int, what: str, layers: list[Any]) -> Any:
        """What all layers have alike."""
        values = [np.asarray(x) for x in layers]
        if any(not np.array_equal(values[0], x) for x in values):
            raise CheckpointError(
                "import_optimizer",
                f"the layers of a stacked leaf differ in {what}, of which the leaf has one",
                path=self.whole.layout.names[i],
                expected="the same in all layers",
                found=", ".join(map(str, values[:8])),
            )
        return layers[0]


def unstacked(who: str, target: Target, names: Names) -> tuple[Target, Names]:
    """The target with each leaf that `names` has by a pattern in layers, and their names."""
    layers = _layers(who, target, names)
    _check(who, target, layers)
    if not isinstance(names, Mapping) or not layers:
        return target, names
    index = {name: i for i, name in enumerate(target.layout.names)}
    at = [
        (i, layer)
        for i, p in enumerate(target.params)
        for layer in np.ndindex(*p.shape[: layers.get(i, 0)])
    ]
    paths = tuple((*target.layout.paths[i], *map(str, layer)) for i, layer in at)
    treedef = jax.tree.structure(nest(paths, range(len(paths))))
    params = [_shape_of(target.params[i], len(layer)) for i, layer in at]
    split = Split(
        **{f.name: getattr(target, f.name) for f in fields(Target)}
        | {
            "layout": Layout(treedef, paths, tuple(map(shown, paths))),
            "params": params,
            "groups": tuple(target.groups[i] for i, _ in at),
            "live": tuple(n for n, (i, _) in enumerate(at) if i in target.moving),
        },
        whole=target,
        at=tuple(at),
    )
    found: dict[str, Any] = {}
    for name, given in names.items():
        i = index[name]
        for n, (of, layer) in enumerate(at):
            if of == i:
                found[split.layout.names[n]] = layer_of(given, layer) if layer else given
    if isinstance(names, Ordered):
        return split, names.sorted(found)
    return split, Unordered(found)


def _layers(who: str, target: Target, names: Names) -> dict[int, int]:
    """The leaves that are in layers in torch, and how many axes number these."""
    found: dict[int, int] = {}
    for i, name in enumerate(target.layout.names):
        given = names.get(name) if isinstance(names, Mapping) else None
        weight = Weight(given) if isinstance(given, str) else given
        if isinstance(weight, Weight) and weight.layers:
            shape = tuple(target.params[i].shape)
            if len(shape) < weight.layers:
                raise ConfigError(
                    who,
                    f"{weight.name!r} has more layers than the leaf has axes",
                    path=name,
                    found=f"shape {shape}",
                )
            found[i] = weight.layers
    return found


def _check(who: str, target: Target, layers: Mapping[int, int]) -> None:
    """Raise `ConfigError` where the leaves of torch are other tensors than those of the rule."""
    part = target.part
    stacks = part.stacks(target.layout, target.params)
    for i, name in enumerate(target.layout.names):
        shape, n = tuple(target.params[i].shape), layers.get(i, 0)
        numbers = " ".join(f"layer{k}" for k in range(n))
        wanted = stack_of(who, name, shape, f"{numbers} ...") if n else None
        found = stacks.get(i)
        same = found == (None if wanted is None else replace(wanted, whole=part.whole))
        if not same and part.looks and i in target.moving:
            raise ConfigError(
                who,
                f"torch has no leaf of several tensors, and {part.name} has other tensors here",
                path=name,
                expected="a stack of layers, each as torch has it" if wanted else "one tensor",
                found="one tensor" if found is None else f"axes={found.text!r}",
                fix=FIX,
            )


def _shape_of(p: Any, layers: int) -> Any:
    return jax.ShapeDtypeStruct(tuple(p.shape[layers:]), p.dtype) if layers else p
