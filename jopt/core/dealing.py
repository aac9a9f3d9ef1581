"""Which stacks a part of matrices keeps, what they start from, and a node with them or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jopt.core.codecs import dtype_of
from jopt.core.declared import Options, Slot
from jopt.core.nested import flatten_dict, nest
from jopt.core.ownership import KEY, Deal, Lie, OwnedStack, Owner, classes_of, lie_told, parts_on
from jopt.core.paths import Path
from jopt.core.places import Place
from jopt.core.stack import Stack
from jopt.core.tree import Layout
from jopt.numerics import compute_dtype

Told = Mapping[str, NamedSharding]
Deals = Mapping[str, Mapping[str, Deal]]


def parted_spec(told: NamedSharding, stack: Stack | None) -> PartitionSpec:
    """How the array of a leaf's matrices lies, where the leaf lies so."""
    if stack is None:
        return told.spec
    entries = (*told.spec, *(None,) * (len(stack.shape) - len(told.spec)))
    return PartitionSpec(*stack.entries(entries, parts_on(told.mesh)))


def deals_of(
    layout: Layout,
    leaves: Sequence[Any],
    sets: Sequence[str],
    live: Sequence[int],
    stacks: Mapping[int, Stack],
    told: Told,
    alike: bool,
) -> Deals:
    """The stacks of all matrices that lie on a mesh, by their set and class.

    `sets`: the set that each leaf is in; `told`: how it lies, by name.
    """
    found: dict[str, dict[str, Deal]] = {}
    members: dict[str, list[tuple[Owner, Any, Lie]]] = {}
    for i in live:
        own, stack = told.get(layout.names[i]), stacks.get(i)
        tensor = tuple(leaves[i].shape) if stack is None else stack.tensor
        shape = tensor if stack is None else (*stack.lead, *tensor)
        if own is None or len(tensor) != 2 or 0 in shape:
            continue
        spec = parted_spec(own, stack)
        lie = lie_told(own.update(spec=spec), len(shape))
        if lie is not None:
            x = jax.ShapeDtypeStruct(shape, compute_dtype(leaves[i].dtype))
            owner = Owner(layout.paths[i], shape, spec, own.spec, stack)
            members.setdefault(sets[i], []).append((owner, x, lie))
    for group, mine in members.items():
        of = [x for _, x, _ in mine], [lie for _, _, lie in mine]
        found[group] = {}
        for cls in classes_of(*of, alike=alike):
            # As the layout has them, which does not depend on how they lie.
            owners = tuple(mine[i][0] for i in sorted(m.index for m in cls.members))
            sizes = tuple((name, cls.lie.mesh.shape[name]) for name in cls.lie.names)
            name = "x".join(map(str, cls.shape))
            same = sum(key.partition(".")[0] == name for key in found[group])
            found[group][f"{name}.{same}" if same else name] = Deal(owners, sizes, alike)
    return found


def born(slot: Slot, deal: Deal, values: Any, p: Any, options: Options, mesh: Any) -> OwnedStack:
    """A slot of all matrices of a stack before the first step.

    **Arguments:** `values`: the number that it starts from, or one array for each owner; `p`: one
    of the parameters, or its shape; `mesh`: the devices, if they are known.
    """
    like = slot.shape == "like"
    if isinstance(values, list):
        return OwnedStack.of(values, deal, like, mesh, slot.turned)
    where = NamedSharding(mesh, deal.spec) if isinstance(mesh, Mesh) else None
    matrix = jax.ShapeDtypeStruct(deal.cls.shape, p.dtype)
    shape = (deal.rows, *slot.shape_for(deal.cls.shape, options))
    dtype = dtype_of(slot, matrix, options)
    return OwnedStack(jax.lax.full(shape, values, dtype, sharding=where), deal, like, slot.turned)


def opened(node: Any) -> Any:
    """A node with one array a matrix in the place of its stacks."""
    if not isinstance(node, dict) or KEY not in node:
        return node
    new = {k: v for k, v in node.items() if k != KEY}
    for slot, parts in _by_slot(node[KEY]).items():
        mine = {**flatten_dict(new.get(slot, {})), **parts}
        new[slot] = nest(mine, mine.values())
    return new


def all_opened(state: Any) -> Any:
    """The same of all nodes of a state."""
    if not isinstance(state, dict):
        return state
    return opened({k: v if k == KEY else all_opened(v) for k, v in state.items()})


def outlined(state: Any) -> Any:
    """A state whose stacks are shapes, so that to open it costs nothing."""

    def one(x: Any) -> Any:
        if not is_stack(x):
            return x
        return replace(x, array=jax.ShapeDtypeStruct(x.array.shape, x.array.dtype))

    return jax.tree.map(one, state, is_leaf=is_stack)


def closed(node: Any, deals: Deals, slots: Sequence[Slot], mesh: Any) -> Any:
    """A node with these stacks in the place of arrays of matrices, the opposite of `opened`."""
    new, stacks = dict(node), dict[str, Any]()
    flat = {slot.name: flatten_dict(node[slot.name]) for slot in slots}
    for group, mine in deals.items():
        stacks[group] = {}
        for name, deal in mine.items():
            found = stacks[group][name] = {}
            for slot in slots:
                names = deal.names(slot.name, slot.turned)
                if deal.owners[0].path in flat[names[0]]:
                    rows = zip(names, deal.owners, strict=True)
                    xs = [flat[name].pop(x.path) for name, x in rows]
                    like = slot.shape == "like"
                    found[slot.name] = OwnedStack.of(xs, deal, like, mesh, slot.turned)
    for name, rest in flat.items():
        new[name] = nest(rest, rest.values())
    return {**new, KEY: stacks} if stacks else new


def shares(stacks: Any) -> Any:
    """The places of stacks."""
    return jax.tree.map(
        lambda x: replace(x, array=Place(over=tuple(x.deal.spec[0]))), stacks, is_leaf=is_stack
    )


def is_stack(x: Any) -> bool:
    """Whether this is a stack."""
    return isinstance(x, OwnedStack)


def _by_slot(stacks: Any) -> dict[str, dict[Path, Any]]:
    found: dict[str, dict[Path, Any]] = {}
    for mine in stacks.values():
        for of in mine.values():
            for slot, stack in of.items():
                for (name, *path), x in stack.apart(slot).items():
                    found.setdefault(name, {})[tuple(path)] = x
    return found
