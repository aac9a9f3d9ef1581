"""A state from one way to store slots to another."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jopt.base import StateError, TreeError
from jopt.core.boxes import taken_off
from jopt.core.checks import check_gone, check_slot_names
from jopt.core.codecs import PLAIN, Bfloat16, Codec, Int8
from jopt.core.nested import has, lookup, nest
from jopt.core.part import SpecPart
from jopt.core.paths import Path
from jopt.core.slots import Store
from jopt.core.spec import Slot
from jopt.core.stack import fitted
from jopt.core.transform import Node, Part, State, Transform, check_transform
from jopt.core.tree import Tree

CODECS: tuple[Codec, ...] = (PLAIN, Int8(), Bfloat16())


def convert_state(tx: Transform, state: State, params: Tree) -> State:
    """The state with its slots stored as `tx` stores them: to 8 bits or bfloat16, and back.

    Slots that are stored so already stay, to the bit, as does all that is no slot. Widening is
    exact; narrowing rounds as a step does. Into a file of another kind, and onward:

        old = jopt.load(path)                        # whichever state_dtype it was saved with
        state = jopt.convert_state(tx, old, params)

    **Arguments:**

    - `tx`: the same optimizer, with the `state_dtype` that is wanted.
    - `state`: its state, stored in any way; inside `jit`, too.
    - `params`: the parameters, or their `jax.ShapeDtypeStruct`s.

    **Raises:** `StateError` for the state of another transform or of other parameters, or a slot
    stored in no way that jopt knows.

    >>> import jax.numpy as jnp, jopt
    >>> params = {"w": jnp.ones((64, 256))}
    >>> state = jopt.adamw(1e-3).init(params)
    >>> small = jopt.convert_state(jopt.adamw(1e-3, state_dtype="int8"), state, params)
    >>> {k: x.nbytes for k, x in sorted(small["adamw"]["mu"]["w"].items())}
    {'scale': 256, 'signed_dynamic_256': 16384}
    """
    check_transform("convert_state", tx)
    state, _ = taken_off(state)
    tx.check_labels(state, params)
    layout, leaves = tx.layout(params)
    of = {path: (name, p) for path, name, p in zip(layout.paths, layout.names, leaves, strict=True)}
    return tx.boxed(_converted(tx.parts, state, of), layout, leaves)


def _converted(
    parts: Mapping[str, Part], state: State, of: Mapping[Path, tuple[str, Any]]
) -> State:
    new: State = {}
    for label, part in parts.items():
        new[label] = state[label]
        if isinstance(part, SpecPart):
            new[label] = _node(part, state[label], of)
        if part.wrapped:
            inner = _converted(part.wrapped, state[label]["inner"], of)
            new[label] = {**new[label], "inner": inner}
    return new


def _node(part: SpecPart, node: Node, of: Mapping[Path, tuple[str, Any]]) -> Node:
    names = {s.name for s in (*part.slots, *part.shared)}
    check_slot_names(part.name, node, names, "convert_state changes how slots are stored")
    # What rounds counts the steps, and what does not may do without.
    count = {"count": node.get("count", jnp.int32(0))} if part.counts else {}
    new = {**{k: v for k, v in node.items() if k != "count"}, **count}
    for slot in part.slots:
        check_gone(part.name, node[slot.name], tuple(of), "convert_state keeps all leaves")
        held = [path for path in of if has(node[slot.name], path)]
        new[slot.name] = nest(held, [_leaf(part, slot, new, path, of) for path in held])
    return new


def _leaf(
    part: SpecPart, slot: Slot, node: Node, path: Path, of: Mapping[Path, tuple[str, Any]]
) -> Any:
    name, p = of[path]
    if jnp.issubdtype(p.dtype, jax.dtypes.extended):
        facts = {"expected": "an array of numbers", "found": p.dtype}
        raise TreeError(part.name, "this leaf has no slots", path=name, **facts)
    stored = lookup(node[slot.name], path)
    slot = fitted(slot, part.stack_of(name, p, dict(of.values())))
    try:
        part.store.check(slot, name, stored, p)
    except StateError as error:
        for codec in CODECS:
            other = Store(part.name, part.slots, part.options, codec)
            with contextlib.suppress(StateError):
                value = other.decoded(slot, name, stored, p)
                return part.store.written(slot, value, p, p, node.get("count"))
        raise error
    return stored
