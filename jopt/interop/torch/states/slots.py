"""The buffers and steps of torch's parameters as jopt's slots and counts, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.core.codecs import dtype_of, fresh
from jopt.core.composed import composed
from jopt.core.nested import flatten_dict, has, lookup, nest
from jopt.core.numbers import own_factors, own_numbers
from jopt.core.part import SpecPart
from jopt.core.spec import Shape, Slot
from jopt.core.transform import Node
from jopt.interop.torch.states.places import Axes, Member
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.tensors import Array, fitted, narrowed, to_torch, whole

_OTHER = {"row": "column", "column": "row"}


def has_step(part: SpecPart) -> bool:
    """Whether torch counts steps: where its rules count under some choices only, it does not."""
    return part.spec.counts is True


def pairs(part: SpecPart, shape: Shape, axes: Axes | None) -> list[tuple[Slot, Slot]]:
    """Jopt's slots of a parameter, each with the slot that torch's buffer is, in torch's axes.

    They are the same, but for the factors of a matrix that torch holds transposed: its rows
    are our columns. A `ValueError` if another axis takes the place of one of the two.
    """
    n = len(shape)
    found = []
    for slot in part.slots:
        if not (slot.held_by(shape, part.options) and slot.torch):
            continue
        other = slot
        if axes is not None and slot.shape in _OTHER and axes[-2:] != (n - 2, n - 1):
            if axes[-2:] != (n - 1, n - 2):
                raise ValueError(slot.name)
            other = next(s for s in part.slots if s.shape == _OTHER[str(slot.shape)])
        found.append((slot, other))
    return found


def misplaced(target: Target, members: Sequence[Member]) -> list[str]:
    """Leaves whose axes in torch do not fit what the optimizer makes of their order."""
    kernels = dict(target.part.frozen_options).get("kernels")
    lines = []
    for m in members:
        if m.leaf not in target.moving:
            continue
        if kernels is not None and (kernels == "out_in") != (m.axes is None):
            axes = "the same axes" if m.axes is None else "its axes turned"
            want = "in_out" if kernels == "out_in" else "out_in"
            lines.append(
                f"{m.shown(target)}: torch has it as (out, in) with {axes}, which is "
                f"kernels={want!r}; {target.label} has kernels={kernels!r}"
            )
        try:
            pairs(target.part, tuple(target.params[m.leaf].shape), m.axes)
        except ValueError as error:
            lines.append(
                f"{m.shown(target)}: {error} averages over one of the last two axes, and torch's "
                f"last two, by {m.axes}, are others"
            )
    return lines


def no_step(target: Target) -> str:
    """What is said of a file that cannot tell where a schedule stands."""
    return (
        f"{target.torch} keeps no step, and {target.label} has a schedule: "
        "say by count= how many steps were taken"
    )


class Reader:
    """Reads torch's entries into a node, and remembers what did not fit."""

    def __init__(self, target: Target, node: Node, cast: bool) -> None:
        self.target, self.node, self.cast = target, node, cast
        self.lines: list[str] = []
        self.values: dict[tuple[str, int], Any] = {}
        self.ages: dict[int, int] = {}
        self._seen: dict[Any, Any] = {}  # thousands of leaves have a few shapes

    def read(self, members: Sequence[Member], entries: Mapping[Any, Any]) -> None:
        """All parameters that are not frozen."""
        for m in members:
            if m.leaf in self.target.moving:
                self._read(m, entries.get(m.id))

    def _read(self, m: Member, entry: Any) -> None:
        """One parameter; an absent, empty or emptied entry is one that has taken no step."""
        part, who = self.target.part, m.shown(self.target)
        if not isinstance(entry, Mapping | None):
            self.lines.append(f"{who}: its state is no dict but a {type(entry).__name__}")
            return
        both = pairs(part, tuple(self.target.params[m.leaf].shape), m.axes)
        found = {k: v for k, v in (entry or {}).items() if v is not None}
        wanted = {str(other.torch) for _, other in both} | ({"step"} if has_step(part) else set())
        self.ages[m.leaf] = 1 if found else 0
        if not found:
            return
        self.lines += [f"{who}: {k} is missing" for k in sorted(wanted - set(found))]
        self.lines += [f"{who}: {k} is unexpected" for k in sorted(set(found) - wanted, key=str)]
        if has_step(part) and "step" in found:
            step = whole(found["step"])
            if isinstance(step, str):
                self.lines.append(f"{who}: step: expected a whole number from 0, found {step}")
            else:
                self.ages[m.leaf] = step
        for slot, other in both:
            if other.torch not in found:
                continue
            shape, stored = (
                other.shape_for(m.shape(self.target), part.options),
                self._stored(slot, m.leaf),
            )
            array = fitted(
                f"{who}: {other.torch}",
                found[other.torch],
                shape,
                stored.dtype,
                self.cast,
                slot.shape == "scalar",
            )
            if isinstance(array, str):
                self.lines.append(array)
            else:
                self.values[slot.name, m.leaf] = m.back(array)

    def _stored(self, slot: Slot, leaf: int) -> Any:
        """The shape and dtype that the rule sees of a slot."""
        stored = lookup(self.node[slot.name], self.target.layout.paths[leaf])
        part, p = self.target.part, self.target.params[leaf]
        key = slot.name, p.dtype, *((x.shape, x.dtype) for x in jax.tree.leaves(stored))
        if key not in self._seen:
            dtype = dtype_of(slot, p, part.options)
            self._seen[key] = jax.eval_shape(
                lambda x: part.store.codec.decode(slot, x, dtype), stored
            )
        return self._seen[key]

    def slots(self, node: Node) -> Node:
        """The node with what was read; `node` has the numbers that fresh slots start from."""
        target, part = self.target, self.target.part
        own, factors = own_numbers(node), own_factors(node)
        for slot in part.slots:
            shapes = {i: tuple(target.params[i].shape) for i in target.live}
            held = [i for i, shape in shapes.items() if slot.held_by(shape, part.options)]
            leaves = []
            for i in held:
                old = lookup(self.node[slot.name], target.layout.paths[i])
                if (slot.name, i) in self.values:
                    dtype = self._stored(slot, i).dtype
                    new = jnp.array(np.asarray(self.values[slot.name, i], dtype))
                elif isinstance(slot.init, str):
                    numbers = composed(target.label, own, factors, target.groups[i])
                    new = fresh(slot, target.params[i], numbers, part.options)
                else:
                    leaves.append(old)
                    continue
                encoded = part.store.codec.encode(slot, new)
                leaves.append(jax.tree.map(like, encoded, old))
            node = {**node, slot.name: nest([target.layout.paths[i] for i in held], leaves)}
        return node

    def counts(self, node: Node, given: int | None) -> tuple[Node, int | None]:
        """The node with its counts, and the number of steps taken as far as it is known."""
        target, part = self.target, self.target.part
        most = max(self.ages.values(), default=0)
        known = has_step(part) or given is not None or (bool(part.slots) and most == 0)
        if "count" not in node:
            return node, given
        if "schedules" in node and not known:
            self.lines.append(no_step(target))
        if given is not None and given < most:
            self.lines.append(f"count={given} is less than the {most} steps in the file")
        count = most if given is None else given
        if not has_step(part):  # a buffer is all that is known of a leaf's steps
            self.ages = {i: count if age else 0 for i, age in self.ages.items()}
        node = {**node, "count": like(jnp.int32(count), node["count"])}
        others = [i for i, age in sorted(self.ages.items()) if age != count]
        if part.ticks and part.slots:
            # What `skips=` reserves has a count of its own, be it the same.
            own = dict.fromkeys(flatten_dict(node.get("leaf_count", {})), count)
            own |= {target.layout.paths[i]: self.ages[i] for i in others}
            if own:
                node["leaf_count"] = nest(own, [jnp.int32(n) for n in own.values()])
        return node, count


def like(new: Any, old: Any) -> Any:
    """`new` placed as `old` is; an array that jax was free to move stays so."""
    tied = isinstance(old, jax.Array) and old.committed
    return jax.device_put(new, old.sharding) if tied else new


def write_all(
    target: Target, members: Sequence[Member], node: Node, eager: bool
) -> tuple[dict[Any, Any], list[str]]:
    """Torch's entries by its ids, and what torch's dtypes cannot hold."""
    both = {m.id: write(target, m, node, eager) for m in members}
    return {i: e for i, (e, _) in both.items() if e}, [
        x for _, lines in both.values() for x in lines
    ]


def write(target: Target, m: Member, node: Node, eager: bool) -> tuple[dict[str, Any], list[str]]:
    """Torch's entry for one parameter, and what torch's dtype cannot hold.

    A leaf that has taken no step has no entry, unless torch makes them at construction (`eager`).
    """
    part, p = target.part, target.params[m.leaf]
    path, own = target.layout.paths[m.leaf], node.get("leaf_count")
    steps = int(lookup(own, path) if has(own, path) else node["count"]) if part.ticks else None
    if m.leaf not in target.moving or (steps == 0 and not eager):
        return {}, []
    entry: dict[str, Any] = {}
    if has_step(part):
        entry["step"] = _step(part, steps or 0)
    lines = []
    for slot, other in pairs(part, tuple(p.shape), m.axes):
        stored, dtype = lookup(node[slot.name], path), dtype_of(slot, p, part.options)
        array: Array = np.asarray(part.store.codec.decode(slot, stored, dtype))
        # Torch holds scalars in float32 or more, and the rest in the dtype of the parameter.
        small = array if slot.shape == "scalar" else narrowed(array, parameter_dtype(array, p))
        if small is None:
            name = np.dtype(p.dtype).name
            lines.append(f"{m.shown(target)}: {other.torch} is beyond {name}")
            continue
        key = str(other.torch)
        entry[key] = to_torch("export_optimizer", key, m.turned(small))
    return entry, lines


def parameter_dtype(array: Array, p: Any) -> Any:
    """The dtype in which torch holds an array of a parameter's."""
    # Statistics of a complex parameter are real.
    both_complex = np.iscomplexobj(array) == jnp.issubdtype(p.dtype, jnp.complexfloating)
    return np.dtype(p.dtype) if both_complex else array.dtype


def _step(part: SpecPart, steps: int) -> Any:
    if part.spec.sparse == "rows":  # torch's one class that counts in Python
        return steps
    import torch

    return torch.tensor(float(steps))
