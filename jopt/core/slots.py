"""The slots of a part in its node of state: how each leaf's is made, read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import StateError
from jopt.core.checks import EXTEND, check_gone, check_shape, check_slot
from jopt.core.codecs import Codec, dtype_of, fresh
from jopt.core.leaf import Leaf, Outcome
from jopt.core.nested import has, lookup, nest
from jopt.core.offloaded import after, brought_in, put_back, rests
from jopt.core.paths import Path
from jopt.core.plan import Plan
from jopt.core.spec import Options, Slot
from jopt.core.stack import NO_STACKS, Stack, Stacks, fitted
from jopt.core.tree import Layout
from jopt.numerics import cast, compute_dtype, is_complex, real_dtype, widest

CONVERT = "To carry it over: state = jopt.convert_state(tx, state, params)."


class Store:
    """What stands between the slots that a rule sees and the arrays that the state holds."""

    def __init__(self, who: str, slots: Sequence[Slot], options: Options, codec: Codec) -> None:
        self.who = who
        self.slots: tuple[Slot, ...] = tuple(slots)
        self.options = options
        self.codec = codec

    @property
    def measures(self) -> bool:
        """Whether it stores nothing of some slot before it has seen all of it."""
        return any(self.codec.of(s).measures for s in self.slots)

    @property
    def rounds(self) -> bool:
        """Whether it rounds what it stores, differently at every step."""
        free = [s for s in self.slots if s.compress and not s.dtype]
        return any(self.codec.of(s).rounds for s in free)

    @property
    def config(self) -> Any:
        """What a checkpoint says about it: the codec, and the slots that it leaves alone."""
        whole = sorted(s.name for s in self.slots if not s.compress or s.dtype)
        said = self.codec.config
        return {**said, "whole": whole} if isinstance(said, dict) else said

    def holders(
        self, slot: Slot, live: Sequence[int], leaves: Sequence[Any], stacks: Stacks = NO_STACKS
    ) -> tuple[int, ...]:
        """Which of the leaves have the slot."""

        def has(i: int) -> bool:
            shape = tuple(leaves[i].shape)
            return fitted(slot, stacks.get(i)).held_by(shape, self.options)

        return tuple(i for i in live if has(i))

    def first(self, slot: Slot, p: Any, numbers: Mapping[str, Any]) -> Any:
        """What the state holds of the slot before the first step of the parameter `p`."""
        return self.codec.encode(slot, fresh(slot, p, numbers, self.options))

    def found(self, slot: Slot, node: Any, layout: Layout, i: int) -> Any:
        """What the state holds of the slot for a leaf; raises `StateError` if nothing."""
        try:
            return lookup(node[slot.name], layout.paths[i])
        except KeyError:
            raise StateError(
                self.who,
                f"the state has no {slot.name!r} for a parameter",
                path=layout.names[i],
                fix=EXTEND,
            ) from None

    def decoded_all(
        self, stored: Mapping[str, Any], name: str, p: Any, stack: Stack | None = None
    ) -> dict[str, Array]:
        """The values of all that is stored for one leaf, by slot."""
        held = [s for s in self.slots if s.name in stored]
        return {s.name: self.decoded(fitted(s, stack), name, stored[s.name], p) for s in held}

    def decoded(self, slot: Slot, name: str, stored: Any, p: Any) -> Array:
        """The value of what is stored of the slot of the parameter `p`, called `name`."""
        try:
            value = self.codec.decode(slot, stored, dtype_of(slot, p, self.options))
        except ValueError as found:
            raise StateError(
                self.who,
                f"{slot.name!r} in the state is stored otherwise than state_dtype= says",
                path=name,
                expected=self.codec.of(slot).name,
                found=found,
                fix=CONVERT,
            ) from None
        return check_shape(self.who, slot, name, value, tuple(p.shape), self.options)

    def measured(self, values: Mapping[str, Any], g: Any, p: Any) -> dict[str, Any]:
        """What must be known of whole new values before any entry of them is stored, by slot."""
        dtype = (g if p is None else p).dtype
        found = {
            s.name: self.codec.measure(s, _typed(s, values[s.name], dtype))
            for s in self.slots
            if s.name in values
        }
        return {name: x for name, x in found.items() if x is not None}

    def written(
        self, slot: Slot, value: Any, g: Any, p: Any, step: Array | None, measured: Any = None
    ) -> Any:
        """What the state holds of the slot's new value, after this step."""
        typed = _typed(slot, value, (g if p is None else p).dtype)
        return self.codec.encode(slot, typed, step, measured)

    def before(
        self, node: Any, layout: Layout, i: int, p: Any, plan: Plan
    ) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any]]:
        """What the state holds for the leaf `p` before a step, and the values of it, by slot.

        The first is in the device's memory, and the last as it rests, if it does elsewhere.
        """
        own = plan.slots_of.get(i, ())
        found = {s.name: self.found(s, node, layout, i) for s in self.slots if s.name in own}
        resting = found if rests(found) else {}
        stored = brought_in(found) if resting else found
        return stored, self.decoded_all(stored, layout.names[i], p, plan.stacks.get(i)), resting

    def fetched(self, leaf: Leaf, behind: Any) -> Leaf:
        """The leaf with what rests in the host's memory brought in, once `behind` is there."""
        if not leaf.resting:
            return leaf
        stored = brought_in(after(leaf.resting, behind))
        like = leaf.g if leaf.p is None else leaf.p
        slots = self.decoded_all(stored, leaf.name, like, leaf.stack)
        return leaf.but(stored=stored, slots=slots)

    def returned(self, leaf: Leaf, out: Outcome) -> Outcome:
        """What came out of it, with the slots stored where they rested."""
        if not leaf.resting:
            return out
        held = [s for s in self.slots if s.name in leaf.resting]
        return replace(out, stored={s.name: self.kept(s, leaf, out) for s in held})

    def of(self, slot: Slot, leaf: Leaf, out: Outcome) -> Any:
        """What the state holds of the slot after this step of a leaf."""
        if slot.name in out.stored:
            return out.stored[slot.name]
        value, measured = out.slots[slot.name], out.measured.get(slot.name)
        return self.written(slot, value, leaf.g, leaf.p, leaf.step, measured)

    def kept(self, slot: Slot, leaf: Leaf, out: Outcome) -> Any:
        """The same, in the memory where it rested."""
        new = self.of(slot, leaf, out)
        return put_back(new, leaf.resting[slot.name]) if leaf.resting else new

    def after(
        self,
        plan: Plan,
        node: Mapping[str, Any],
        leaves: Mapping[int, Leaf],
        outcomes: Mapping[int, Outcome],
    ) -> dict[str, Any]:
        """The slots after a step; leaves that sit out keep what they have."""
        entries: dict[str, Any] = {}
        for slot in self.slots:
            holders, old = plan.holders[slot.name], node[slot.name]
            paths = plan.paths_of(holders)
            check_slot(self.who, slot.name, old, paths)
            stored = [
                self.kept(slot, leaves[i], outcomes[i]) if i in outcomes else lookup(old, path)
                for i, path in zip(holders, paths, strict=True)
            ]
            entries[slot.name] = nest(paths, stored)
        return entries

    def joined(
        self,
        node: Any,
        layout: Layout,
        params: Sequence[Any],
        live: Sequence[int],
        stacks: Stacks = NO_STACKS,
    ) -> list[Path]:
        """The leaves of which `node` lacks a slot that they should have."""
        held = [(s, i) for s in self.slots for i in self.holders(s, live, params, stacks)]
        paths = {layout.paths[i] for s, i in held if not has(node.get(s.name), layout.paths[i])}
        return sorted(paths)

    def extended(
        self,
        new: Any,
        node: Any,
        layout: Layout,
        params: Sequence[Any],
        live: Sequence[int],
        stacks: Stacks = NO_STACKS,
    ) -> dict[str, Any]:
        """The slots as `node` has them, and as the `new` node has them for leaves that joined."""
        slots: dict[str, Any] = {}
        joined = {*self.joined(node, layout, params, live, stacks)}
        for slot in self.slots:
            old = node.get(slot.name, {})
            check_gone(self.who, old, (*layout.paths, *layout.elsewhere))
            held = self.holders(slot, live, params, stacks)
            for i in held:
                if layout.paths[i] not in joined:
                    value = lookup(old, layout.paths[i])
                    mine = fitted(slot, stacks.get(i))
                    self.check(mine, layout.names[i], value, params[i])
            own = [layout.paths[i] for i in held]
            leaves = [lookup(new[slot.name] if p in joined else old, p) for p in own]
            slots[slot.name] = nest(own, leaves)
        return slots

    def check(self, slot: Slot, name: str, stored: Any, p: Any) -> None:
        """Raise `StateError` unless this could be what is stored of the parameter's slot."""
        if self.codec.of(slot).rounds:
            jax.eval_shape(lambda x: self.decoded(slot, name, x, p), stored)
        else:
            self.decoded(slot, name, stored, p)


def stand_in(params: Sequence[Any]) -> jax.ShapeDtypeStruct:
    """The parameter that a slot of these together is for, in the widest of their dtypes."""
    return jax.ShapeDtypeStruct((), widest(*(real_dtype(p.dtype) for p in params)))


def _typed(slot: Slot, value: Any, dtype: Any) -> Array:
    # The dtype a slot was born with is the one it keeps, whatever the gradient's.
    if slot.dtype:
        return jnp.asarray(value, slot.dtype)
    wide = compute_dtype(dtype)
    keep = is_complex(wide) and not is_complex(value.dtype)
    return jnp.asarray(value if keep else cast(value, wide))
