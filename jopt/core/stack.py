"""A leaf that holds tensors otherwise than as one array of their own axes.

A `Stack` says, for a leaf of one shape, where its tensors are: which axes number them, and which
together are an axis of each. A rule sees one tensor at a time; the state holds slots along the
leaf's own axes, so that they lie on a mesh as the leaf does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax import Array

from jopt.core.declared import Axes, Options, Shape, Slot
from jopt.numerics import explicit
from jopt.numerics.explicit import stacked


@dataclass(frozen=True)
class Stack:
    """How a leaf of one shape holds its tensors.

    **Attributes:**

    - `shape`: the leaf's.
    - `pieces`: the sizes of what its axes are split into, in its order; `homes`: for each of them
      the axis that it is of.
    - `batch`: the pieces that number the tensors; `groups`: for each axis of a tensor the pieces
      that it is made of.
    - `whole`: the names of the slots that are of the leaf as it is.
    - `text`: the line that says so.
    """

    shape: Shape
    pieces: Shape
    homes: tuple[int, ...]
    batch: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    whole: frozenset[str] = frozenset()
    text: str = field(default="", compare=False)

    @property
    def lead(self) -> Shape:
        """How many tensors there are, along each axis that numbers them."""
        return tuple(self.pieces[a] for a in self.batch)

    @property
    def tensor(self) -> Shape:
        """The shape of one tensor."""
        return tuple(math.prod(self.pieces[a] for a in group) for group in self.groups)

    @property
    def plain(self) -> bool:
        """Whether the leaf is one tensor as it is."""
        return not self.batch and self.tensor == self.shape and self._order == self._sorted

    def each(self, tree: Any) -> list[Any]:
        """The entries of a tree that `apart` has made, one tree for each tensor."""
        numbered = np.ndindex(*self.lead)
        return [jax.tree.map(lambda x, n=n: x[n], tree) for n in numbered]

    def stacked(self, trees: Sequence[Any]) -> Any:
        """What `each` took apart."""
        return jax.tree.map(
            lambda *xs: explicit.reshaped(stacked(xs), (*self.lead, *xs[0].shape)), *trees
        )

    def of(self, slot: Slot) -> Slot:
        """The same slot, for leaves like this."""
        return slot if slot.name in self.whole else StackedSlot(slot, self)

    def parted(self, slot: Slot, x: Array, options: Options) -> Array:
        """What the tensors have of a slot, numbered by the leading axes."""
        slot = self.of(slot)
        return slot.parted(x, options) if isinstance(slot, StackedSlot) else x

    def joined(self, slot: Slot, x: Array, options: Options, like: Array | None = None) -> Array:
        """What `parted` took apart, split as `like`."""
        slot = self.of(slot)
        return slot.joined(x, options, like) if isinstance(slot, StackedSlot) else x

    def mapped(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one tensor, for all of them."""
        for _ in self.batch:
            f = jax.vmap(f)
        return f

    def apart(self, x: Array, gone: frozenset[int] = frozenset()) -> Array:
        """The tensors, numbered by the leading axes; `gone`: the pieces that `x` lacks, of size 1.

        Axes behind those of the leaf stay behind.
        """
        sizes, more = self._sizes(gone), x.shape[len(self.shape) :]
        order = (*self._order, *range(len(sizes), len(sizes) + len(more)))
        seen = explicit.reshaped(x, (*sizes, *more))
        seen = seen if order == tuple(sorted(order)) else seen.transpose(order)
        return explicit.reshaped(seen, (*self._seen(sizes), *more))

    def together(
        self, x: Array, gone: frozenset[int] = frozenset(), like: Array | None = None
    ) -> Array:
        """What `apart` took apart, split as `like`."""
        sizes = self._sizes(gone)
        more = x.shape[len(self.batch) + len(self.groups) :]
        back = sorted(range(len(sizes)), key=self._order.__getitem__)
        order = (*back, *range(len(sizes), len(sizes) + len(more)))
        seen = explicit.reshaped(x, (*(sizes[a] for a in self._order), *more))
        seen = seen if order == tuple(sorted(order)) else seen.transpose(order)
        return lying(explicit.reshaped(seen, (*self.without(gone), *more)), like)

    def without(self, gone: frozenset[int]) -> Shape:
        """The leaf's shape, less these pieces."""
        sizes = self._sizes(gone)
        return tuple(
            math.prod(n for n, home in zip(sizes, self.homes, strict=True) if home == axis)
            for axis in range(len(self.shape))
        )

    def home(self, group: tuple[int, ...]) -> int | None:
        """The axis of the leaf that these pieces are, if they are one as it is."""
        if len(group) != 1 or self.pieces[group[0]] != self.shape[self.homes[group[0]]]:
            return None
        return self.homes[group[0]]

    def entries(self, of: Sequence[Any], parts: Callable[[Any], int]) -> list[Any]:
        """For each axis of what `apart` gives, what splits it, if these split the leaf's axes.

        **Arguments:** `of`: for each axis of the leaf what splits it; `parts`: into how many.
        """
        found: list[Any] = []
        for group in (*((a,) for a in self.batch), *self.groups):
            first = group[0]
            home = self.homes[first]
            splits = of[home] if self.homes.index(home) == first else None
            found.append(splits if self.pieces[first] % parts(splits) == 0 else None)
        return found

    @property
    def _order(self) -> tuple[int, ...]:
        return (*self.batch, *(a for group in self.groups for a in group))

    @property
    def _sorted(self) -> tuple[int, ...]:
        return tuple(range(len(self.pieces)))

    def _sizes(self, gone: frozenset[int]) -> Shape:
        return tuple(1 if a in gone else n for a, n in enumerate(self.pieces))

    def _seen(self, sizes: Shape) -> Shape:
        merged = (math.prod(sizes[a] for a in group) for group in self.groups)
        return (*(sizes[a] for a in self.batch), *merged)


@dataclass(frozen=True, init=False, repr=False)
class StackedSlot(Slot):
    """A slot of leaves that are stacks: what it would be for each tensor, in one array.

    Where it has the tensor's axes, summed ones with length 1, it has the leaf's in its order. Any
    other shape stands behind the axes that number the tensors.
    """

    def __init__(self, slot: Slot, stack: Stack) -> None:
        for f in fields(Slot):
            object.__setattr__(self, f.name, getattr(slot, f.name))
        object.__setattr__(self, "one", slot)
        object.__setattr__(self, "stack", stack)

    one: Slot = None  # type: ignore[assignment]
    stack: Stack = None  # type: ignore[assignment]

    def held_by(self, shape: Shape, options: Options) -> bool:
        """Whether a tensor has it."""
        return self.one.held_by(self.stack.tensor, options)

    def shape_for(self, shape: Shape, options: Options) -> Shape:
        """See `Slot.shape_for`."""
        gone = self._gone(options)
        if gone is not None:
            return self.stack.without(gone)
        return (*self.stack.lead, *self.one.shape_for(self.stack.tensor, options))

    def axes_for(self, shape: Shape, options: Options) -> Axes:
        """See `Slot.axes_for`."""
        stack, gone = self.stack, self._gone(options)
        if gone is not None:
            kept = zip(stack.without(gone), stack.shape, strict=True)
            return tuple(axis if n == whole else None for axis, (n, whole) in enumerate(kept))
        own = self.one.axes_for(stack.tensor, options)
        of_tensor = (None if axis is None else stack.home(stack.groups[axis]) for axis in own)
        return (*(stack.home((a,)) for a in stack.batch), *of_tensor)

    def first(self, p: Array, options: Options, dtype: Any) -> Array:
        """See `Slot.first`: of each tensor."""
        # As one program that takes p, read or not: else JAX does not know on which mesh to make it.
        run = self.stack.mapped(lambda one: self.one.first(one, options, dtype))
        first = jax.jit(run, keep_unused=True)
        return self.joined(first(self.stack.apart(p)), options)

    def parted(self, x: Array, options: Options) -> Array:
        """The slots of the tensors, numbered by the leading axes."""
        gone = self._gone(options)
        return x if gone is None else self.stack.apart(x, gone)

    def joined(self, x: Array, options: Options, like: Array | None = None) -> Array:
        """What `parted` took apart, split as `like`."""
        gone = self._gone(options)
        return lying(x, like) if gone is None else self.stack.together(x, gone, like)

    def _gone(self, options: Options) -> frozenset[int] | None:
        """The pieces of the leaf that it is summed over; `None` if its axes are no leaf's."""
        tensor = self.stack.tensor
        kept = self.one.shape_for(tensor, options)
        summed = {"row": 1, "column": 2}.get(self.shape if isinstance(self.shape, str) else "", 0)
        if summed == 0:
            return frozenset() if kept == tensor and self.shape != "scalar" else None
        return None if len(tensor) < summed else frozenset(self.stack.groups[-summed])


@dataclass(frozen=True)
class Held:
    """The slots of an optimizer, and its static options, which say their shapes."""

    slots: tuple[Slot, ...]
    options: tuple[tuple[str, Any], ...]

    def parted(self, stack: Stack, slots: Mapping[str, Array]) -> dict[str, Array]:
        """What the tensors of a leaf have of these slots, numbered by the leading axes."""
        known = {s.name: s for s in self.slots}
        return {k: stack.parted(known[k], x, dict(self.options)) for k, x in slots.items()}

    def joined(
        self, stack: Stack, slots: Mapping[str, Array], like: Mapping[str, Array]
    ) -> dict[str, Array]:
        """What `parted` took apart, each split as the one of `like`."""
        known, options = {s.name: s for s in self.slots}, dict(self.options)
        return {k: stack.joined(known[k], x, options, like[k]) for k, x in slots.items()}


Stacks = Mapping[int, Stack]
"""How leaves hold their tensors, by their place in the layout; no others are stacks."""

NO_STACKS: Stacks = MappingProxyType({})


def fitted(slot: Slot, stack: Stack | None) -> Slot:
    """The slot of a leaf that may be a stack."""
    return slot if stack is None else stack.of(slot)


def lying(x: Array, like: Array | None) -> Array:
    """`x`, split as an array of its shape is: what types do not say of it, or say otherwise."""
    return x if like is None else explicit.like(x, explicit.laid(like, *range(like.ndim)))
