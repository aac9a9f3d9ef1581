"""The buffers and steps of torch's parameters as jopt's slots and counts, and back.

The table is the slots of a spec, `pairs`; it is read forwards by `Buffers.read` and backwards by
`Buffers.write`.
"""

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
from jopt.core.spec import Slot
from jopt.core.stack import fitted as fitted_to
from jopt.core.transform import Node
from jopt.interop.torch.states.members import Member
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.tensors import Array, Lines, counted, fitted, sent

_OTHER = {"row": "column", "column": "row"}
Index = tuple[int | None, ...]


def pairs(target: Target, m: Member) -> list[tuple[Slot, Slot]]:
    """Jopt's slots of a parameter, each with the slot that torch's buffer is, in torch's axes.

    They are the same, but for the factors of a matrix that torch holds transposed: its rows
    are our columns. A `ValueError` if another axis takes the place of one of the two.
    """
    part, axes, n = target.part, m.axes, len(m.shape)
    found = []
    for slot in part.slots:
        if not (slot.held_by(m.shape, part.options) and slot.torch):
            continue
        other = slot
        if axes is not None and slot.shape in _OTHER and axes[-2:] != (n - 2, n - 1):
            if axes[-2:] != (n - 1, n - 2):
                raise ValueError(slot.name)
            other = next(s for s in part.slots if s.shape == _OTHER[str(slot.shape)])
        found.append((slot, other))
    return found


def misplaced(target: Target, members: Sequence[Member]) -> Lines:
    """Leaves whose axes in torch do not fit what the optimizer makes of their order."""
    kernels = dict(target.part.frozen_options).get("kernels")
    lines = []
    for m in (m for m in members if m.moves):
        if kernels is not None and (kernels == "out_in") != (m.axes is None):
            axes = "the same axes" if m.axes is None else "its axes turned"
            want = "in_out" if kernels == "out_in" else "out_in"
            lines.append(
                f"{m.shown}: torch has it as (out, in) with {axes}, which is "
                f"kernels={want!r}; {target.label} has kernels={kernels!r}"
            )
        try:
            pairs(target, m)
        except ValueError as error:
            lines.append(
                f"{m.shown}: {error} averages over one of the last two axes, and torch's "
                f"last two, by {m.axes}, are others"
            )
    return lines


def no_step(target: Target) -> str:
    """What is said of a file that cannot tell where a schedule stands."""
    return (
        f"{target.torch} keeps no step, and {target.label} has a schedule: "
        "say by count= how many steps were taken"
    )


class Buffers:
    """Torch's entries of each parameter, and the slots of a node.

    **Attributes:** `lines`, what does not fit; `ages`, the steps of each leaf that was read, layer
    by layer.
    """

    def __init__(self, target: Target, node: Node, lines: Lines, cast: bool = False) -> None:
        self.target, self.node, self.lines, self.cast = target, node, lines, cast
        # Where torch's rules count under some choices only, it keeps no step.
        self.has_step = target.part.spec.counts is True
        self.ages: dict[int, dict[tuple[int, ...], int]] = {}
        self._read: dict[tuple[str, int], dict[Index, Array]] = {}

    def read(self, members: Sequence[Member], entries: Mapping[Any, Any]) -> None:
        """All parameters that are not frozen."""
        for m in (m for m in members if m.moves):
            self._read_one(m, entries.get(m.id))

    def _read_one(self, m: Member, entry: Any) -> None:
        """One parameter; an absent, empty or emptied entry is one that has taken no step."""
        if not isinstance(entry, Mapping | None):
            self.lines.append(f"{m.shown}: its state is no dict but a {type(entry).__name__}")
            return
        both = pairs(self.target, m)
        found = {k: v for k, v in (entry or {}).items() if v is not None}
        wanted = {str(other.torch) for _, other in both} | ({"step"} if self.has_step else set())
        ages = self.ages.setdefault(m.leaf, {})
        ages[m.layer] = 1 if found else 0
        if not found:
            return
        self.lines += [f"{m.shown}: {k} is missing" for k in sorted(wanted - set(found))]
        surplus = sorted(set(found) - wanted, key=str)
        self.lines += [f"{m.shown}: {k} is unexpected" for k in surplus]
        if self.has_step and "step" in found:
            step = counted(self.lines, f"{m.shown}: step", found["step"])
            ages[m.layer] = ages[m.layer] if step is None else step
        for slot, other in both:
            if other.torch in found:
                self._read_slot(m, slot, other, found[other.torch])

    def _read_slot(self, m: Member, slot: Slot, other: Slot, value: Any) -> None:
        shape = other.shape_for(m.shape_there, self.target.part.options)
        dtype, single = self._dtype(slot, m.leaf), slot.shape == "scalar"
        who = f"{m.shown}: {other.torch}"
        array = fitted(self.lines, who, value, shape, dtype, self.cast, single)
        if array is None:
            return
        array, index = m.weight.here(array), self._index(slot, m)
        kept = self._read.setdefault((slot.name, m.leaf), {}).setdefault(index, array)
        if not np.array_equal(kept, array):
            self.lines.append(f"{m.shown}: the layers differ in {slot.name}, of which it has one")

    def _own(self, slot: Slot, leaf: int) -> Slot:
        """The slot of a leaf that may be several tensors."""
        return fitted_to(slot, self.target.stacks.get(leaf))

    def _dtype(self, slot: Slot, leaf: int) -> Any:
        """The dtype that the rule sees of a slot."""
        part = self.target.part
        return dtype_of(self._own(slot, leaf), self.target.params[leaf], part.options)

    def _index(self, slot: Slot, m: Member) -> Index:
        """Where a layer of a leaf stands in a slot, of which it may have one for all."""
        if not m.layer:
            return ()
        axes = self._own(slot, m.leaf).axes_for(tuple(m.param.shape), self.target.part.options)
        numbers = {axes.index(a): n for a, n in enumerate(m.layer) if a in axes}
        return tuple(numbers.get(a) for a in range(max(numbers, default=-1) + 1))

    def _decoded(self, slot: Slot, leaf: int) -> Any:
        """A slot of a leaf as the rule sees it."""
        stored = lookup(self.node[slot.name], self.target.layout.paths[leaf])
        return self.target.part.store.codec.decode(slot, stored, self._dtype(slot, leaf))

    def slots(self, node: Node) -> Node:
        """The node with what was read; `node` has the numbers that fresh slots start from."""
        target, part = self.target, self.target.part
        own, factors = own_numbers(node), own_factors(node)
        for slot in part.slots:
            leaves = {}
            for i in target.live:
                path, read = target.layout.paths[i], self._read.get((slot.name, i), {})
                if not has(self.node[slot.name], path):
                    continue
                old = leaves[path] = lookup(self.node[slot.name], path)
                new: Any
                if () in read:
                    new = np.asarray(read[()], self._dtype(slot, i))
                elif isinstance(slot.init, str):
                    numbers = composed(target.label, own, factors, target.groups[i])
                    new = fresh(self._own(slot, i), target.params[i], numbers, part.options)
                elif read:
                    new = self._decoded(slot, i)
                else:
                    continue
                if read and () not in read:
                    new = np.array(new)
                    for index, array in read.items():
                        new[_at(index)] = array
                encoded = part.store.codec.encode(slot, jnp.array(new))
                leaves[path] = jax.tree.map(like, encoded, old)
            node = {**node, slot.name: nest(leaves, leaves.values())}
        return node

    def counts(self, node: Node, given: int | None) -> tuple[Node, int | None]:
        """The node with its counts, and the number of steps taken as far as it is known."""
        target, part = self.target, self.target.part
        most = max((age for of in self.ages.values() for age in of.values()), default=0)
        known = self.has_step or given is not None or (bool(part.slots) and most == 0)
        if "count" not in node:
            return node, given
        if "schedules" in node and not known:
            self.lines.append(no_step(target))
        if given is not None and given < most:
            self.lines.append(f"count={given} is less than the {most} steps in the file")
        count = most if given is None else given
        node = {**node, "count": like(jnp.int32(count), node["count"])}
        # What `skips=` reserves has a count of its own, be it the same.
        own = dict.fromkeys(flatten_dict(node.get("leaf_count", {})), count)
        for i, of in sorted(self.ages.items()):
            # Without a step a buffer is all that is known of a leaf's.
            ages = [age if self.has_step or not age else count for age in of.values()]
            if set(ages) != {count}:
                own[target.layout.paths[i]] = ages[0]
            if len(set(ages)) > 1:
                said = ", ".join(map(str, ages[:8]))
                name = target.layout.names[i]
                self.lines.append(f"{name}: its layers differ in step, of which it has one: {said}")
        if part.ticks and part.slots and own:
            node["leaf_count"] = nest(own, [jnp.int32(n) for n in own.values()])
        return node, count

    def write(self, members: Sequence[Member], eager: bool) -> dict[Any, Any]:
        """Torch's entries by its ids."""
        entries = {m.id: self.entry(m, eager) for m in members}
        return {i: entry for i, entry in entries.items() if entry}

    def entry(self, m: Member, eager: bool = True) -> dict[str, Any]:
        """Torch's entry for one parameter.

        A leaf that has taken no step has none, unless torch makes them at construction (`eager`).
        """
        part, own = self.target.part, self.node.get("leaf_count")
        steps = self.node["count"] if part.ticks else None
        steps = lookup(own, m.path) if has(own, m.path) else steps
        if not m.moves or (not eager and steps is not None and int(steps) == 0):
            return {}
        entry = {"step": _step(part.spec.sparse == "rows", steps or 0)} if self.has_step else {}
        for slot, other in pairs(self.target, m):
            array = np.asarray(self._decoded(slot, m.leaf))[_at(self._index(slot, m))]
            # Torch holds scalars in float32 or more, and the rest in the dtype of the parameter.
            dtype = array.dtype if slot.shape == "scalar" else parameter_dtype(array, m.param)
            key = str(other.torch)
            entry[key] = sent(self.lines, f"{m.shown}: {key} is", m.weight.there(array), dtype)
        return entry


def _at(index: Index) -> Any:
    return (*(slice(None) if n is None else n for n in index), ...)


def like(new: Any, old: Any) -> Any:
    """`new` placed as `old` is; an array that jax was free to move stays so."""
    tied = isinstance(old, jax.Array) and old.committed
    return jax.device_put(new, old.sharding) if tied else new


def parameter_dtype(array: Array, p: Any) -> Any:
    """The dtype in which torch holds an array of a parameter's."""
    # Statistics of a complex parameter are real.
    both_complex = np.iscomplexobj(array) == jnp.issubdtype(p.dtype, jnp.complexfloating)
    return np.dtype(p.dtype) if both_complex else array.dtype


def _step(in_python: bool, steps: Any) -> Any:
    if in_python:  # torch's one class that does
        return int(steps)
    import torch

    return torch.tensor(float(steps))
