"""A tensor in pieces, as many as there are devices, and whole again: shapes alone, no traffic.

Each device has a shard of the tensor. Where several have the same one, because it is replicated
over some mesh axes, the shard is cut once more, so that every device has a piece of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import reshaped

Shape = tuple[int, ...]
FLAT = -1


@dataclass(frozen=True)
class Cut:
    """How tensors of one shape that lie alike are in pieces.

    **Attributes:** `tensor`: the shape; `over`: the mesh axes that split each of its axes;
    `within`: all mesh axes of the exchange; `sizes`: how many devices each has.
    """

    tensor: Shape
    over: tuple[tuple[str, ...], ...]
    within: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def spare(self) -> tuple[str, ...]:
        """The mesh axes over which the tensor is replicated."""
        taken = {name for names in self.over for name in names}
        return tuple(name for name in self.within if name not in taken)

    @property
    def parts(self) -> int:
        """How many devices have the same shard."""
        return math.prod(self._size[name] for name in self.spare)

    @property
    def shard(self) -> Shape:
        """What one device has."""
        splits = (math.prod(self._size[n] for n in names) for names in self.over)
        return tuple(n // k for n, k in zip(self.tensor, splits, strict=True))

    @property
    def axis(self) -> int:
        """The axis along which shards are cut once more, `FLAT` where none divides."""
        fits = (i for i, n in enumerate(self.shard) if n % self.parts == 0)
        return next(fits, FLAT)

    @property
    def piece(self) -> Shape:
        """The shape of a piece."""
        if self.axis == FLAT:
            return (-(-math.prod(self.shard) // self.parts),)
        return tuple(n // self.parts if i == self.axis else n for i, n in enumerate(self.shard))

    def cut(self, x: Array, which: Array | int) -> Array:
        """One piece each of `k` shards, from `(k, *shard)` to `(k, *piece)`."""
        if self.axis == FLAT:
            x = padded(reshaped(x, (len(x), -1)), self.piece[0] * self.parts)
        if self.parts == 1:
            return x
        at = max(self.axis, 0) + 1
        split = (*x.shape[:at], self.parts, x.shape[at] // self.parts, *x.shape[at + 1 :])
        mine: Array = jax.lax.dynamic_index_in_dim(reshaped(x, split), which, at, keepdims=False)
        return mine

    def mended(self, pieces: Array) -> Array:
        """The shards again, from all pieces of each: `(parts, k, *piece)` to `(k, *shard)`."""
        at = max(self.axis, 0) + 1
        x = jnp.moveaxis(pieces, 0, at)
        x = reshaped(x, (*x.shape[:at], -1, *x.shape[at + 2 :]))
        if self.axis == FLAT:
            x = x[:, : math.prod(self.shard)]
        return reshaped(x, (len(x), *self.shard))

    def together(self, x: Array) -> Array:
        """Whole tensors from what each device sent, `(k, devices, *piece)` to `(k, *tensor)`."""
        k, piece = len(x), self.piece
        x = reshaped(x, (k, *self.sizes, *piece)).transpose(self._order)
        if self.axis != FLAT:
            return reshaped(x, (k, *self.tensor))
        splits = self._splits
        x = reshaped(x, (k, *splits, -1))[..., : math.prod(self.shard)]
        x = reshaped(x, (k, *splits, *self.shard))
        return reshaped(x.transpose(self._woven), (k, *self.tensor))

    def apart(self, x: Array) -> Array:
        """What each device is to get: `together` undone."""
        k, piece, order = len(x), self.piece, self._order
        if self.axis == FLAT:
            splits = self._splits
            shards = zip(splits, self.shard, strict=True)
            x = reshaped(x, (k, *(n for pair in shards for n in pair)))
            x = reshaped(x.transpose(_inverse(self._woven)), (k, *splits, -1))
            x = padded(x, piece[0] * self.parts)
        sizes = (k, *self.sizes, *piece)
        x = reshaped(x, tuple(sizes[i] for i in order)).transpose(_inverse(order))
        return reshaped(x, (k, math.prod(self.sizes), *piece))

    @property
    def _size(self) -> Mapping[str, int]:
        return dict(zip(self.within, self.sizes, strict=True))

    @property
    def _splits(self) -> Shape:
        return tuple(n // k for n, k in zip(self.tensor, self.shard, strict=True))

    @property
    def _order(self) -> tuple[int, ...]:
        """Devices and piece, in the order in which they make up the tensor."""
        at = {name: 1 + i for i, name in enumerate(self.within)}
        spare, first = [at[n] for n in self.spare], 1 + len(self.within)
        if self.axis == FLAT:
            return (0, *(at[n] for names in self.over for n in names), *spare, first)
        order = [0]
        for i, names in enumerate(self.over):
            order += [at[n] for n in names] + (spare if i == self.axis else []) + [first + i]
        return tuple(order)

    @property
    def _woven(self) -> tuple[int, ...]:
        """From which part of each axis, and which entry of it, to the axes themselves."""
        n = len(self.tensor)
        return (0, *(i for axis in range(n) for i in (1 + axis, 1 + n + axis)))


def padded(x: Array, to: int) -> Array:
    """With zeros at the end of the last axis."""
    more = to - x.shape[-1]
    return jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, more),)) if more else x


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))
