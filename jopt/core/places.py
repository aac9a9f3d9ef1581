"""Which parameter each array of a state belongs to, and which of its axes that array follows.

Everything about where a state lives on a mesh is read off from this; it knows no meshes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from jopt.core.boxes import closed
from jopt.core.codecs import PLAIN, Codec
from jopt.core.nested import has, lookup, nest
from jopt.core.spec import Axes, Options, Shape, Slot
from jopt.core.stack import NO_STACKS, StackedSlot, Stacks, fitted
from jopt.core.tree import Layout


@dataclass(frozen=True)
class Place:
    """The place of one array of a state.

    **Attributes:** `index`, the parameter it belongs to, in the order of the layout, or `None`
    for counts, numbers and what else all parameters share; `axes`, for each of its axes the
    parameter's axis that it runs along, or `None`; `grain`, for each of its axes how many
    entries in a row stay on one device, 1 for all axes if it is empty; `spread`, the first axis
    that is not the parameter's of what belongs to a whole matrix, which is split over all mesh
    axes that nothing before it is split over, where it can be.
    """

    index: int | None = None
    axes: Axes = ()
    grain: Shape = ()
    spread: int | None = None
    over: tuple[str, ...] = ()


SHARED = Place()


def by_slots(
    slots: Sequence[Slot],
    options: Options,
    layout: Layout,
    params: Sequence[Any],
    node: Any,
    codec: Codec = PLAIN,
    stacks: Stacks = NO_STACKS,
) -> Any:
    """The places of a node whose slots are declared; all that is no slot is shared."""
    placed = jax.tree.map(lambda _: SHARED, node)
    for slot in slots:
        own = {i: path for i, path in enumerate(layout.paths) if has(node[slot.name], path)}
        places = [
            by_slot(
                fitted(slot, stacks.get(i)),
                i,
                tuple(params[i].shape),
                options,
                lookup(node[slot.name], path),
                codec,
            )
            for i, path in own.items()
        ]
        placed[slot.name] = nest(own.values(), places)
    return placed


def by_slot(
    slot: Slot, index: int, shape: Shape, options: Options, stored: Any, codec: Codec = PLAIN
) -> Any:
    """The places of what the state holds of one slot of the parameter `index`.

    A codec may hold it as several arrays: codes of the slot's own shape, blocks along the last
    axis, and one number a block. They keep the slot's axes from the first one on.
    """
    axes = slot.axes_for(shape, options)
    first = len(slot.stack.batch) if isinstance(slot, StackedSlot) else 0
    spread = first if slot.owned and slot.shape != "like" and first < len(axes) else None
    if spread is not None:  # what is as long as an axis of the matrix is none of its axes
        axes = (*axes[:first], *(None,) * (len(axes) - first))

    def place(x: Any, grain: Shape) -> Place:
        spare = max(len(x.shape) - len(axes), 0)
        return Place(index, (*axes[: len(x.shape)], *(None,) * spare), grain, spread)

    return jax.tree.map(place, stored, codec.of(slot).grain(stored))


def by_path(layout: Layout, params: Sequence[Any], node: Any) -> Any:
    """The places of a node that declares nothing, from the paths and shapes of its leaves.

    A leaf whose path ends with the path of a parameter and that has its shape is like it; of
    several such parameters, the one with the longest path.
    """
    index = {path: i for i, path in enumerate(layout.paths)}

    def place(keys: Any, x: Any) -> Place:
        path = tuple(str(k.key) for k in keys)
        for start in range(len(path) + 1):
            i = index.get(path[start:])
            if i is not None and tuple(params[i].shape) == tuple(x.shape):
                return Place(i, tuple(range(len(x.shape))))
        return SHARED

    return jax.tree_util.tree_map_with_path(place, node)


def boxed(layout: Layout, params: Sequence[Any], node: Any, places: Any) -> Any:
    """A node, or a whole state, in boxes like the parameters', as far as axes are shared."""

    def one(x: Any, place: Place) -> Any:
        if place.index is None:
            return x
        shape = tuple(params[place.index].shape)
        return closed(layout.boxes[place.index], x, place.axes, shape)

    return jax.tree.map(one, node, places) if layout.boxes else node


def renumbered(places: Any, members: Sequence[int]) -> Any:
    """The places of a part that saw only some parameters, counted among all of them."""
    return jax.tree.map(
        lambda p: p if p.index is None else replace(p, index=members[p.index]),
        places,
        is_leaf=lambda x: isinstance(x, Place),
    )
