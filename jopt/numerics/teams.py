"""Devices that work on the same matrices, each on some rows; within `shard_map`.

What they have of each other goes through `Team.whole`: every product is then as on one device, row
by row, and so is its rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Work(NamedTuple):
    """What a matrix takes.

    **Attributes:** `flops`: all operations; `nbytes`: where many devices share it, what each has to
    get from the others; `moves`: in how many collectives.
    """

    flops: float
    nbytes: float
    moves: int


@dataclass(frozen=True)
class Team:
    """Neighbours along mesh axes.

    **Attributes:** `names`: the axes; `devices`: how many they have; `size`: how many are a team.
    """

    names: tuple[str, ...] = ()
    devices: int = 1
    size: int = 1

    def rows(self, x: Array) -> Array:
        """This device's rows of matrices, `(k, m, n)` to `(k, m / size, n)`."""
        if self.size == 1:
            return x
        length = x.shape[1] // self.size
        at = jax.lax.axis_index(self.names) % self.size * length
        return jax.lax.dynamic_slice_in_dim(x, at, length, axis=1)

    def whole(self, x: Array) -> Array:
        """The matrices, from the rows that each has."""
        if self.size == 1:
            return x
        teams = [[*range(i, i + self.size)] for i in range(0, self.devices, self.size)]
        gather = functools.partial(
            jax.lax.all_gather,
            axis_name=self.names,
            axis=1,
            tiled=True,
            axis_index_groups=teams,
        )
        return moved(gather, x)


ALONE = Team()
"""A device that has whole matrices."""


def moved(move: Callable[[Array], Array], x: Array) -> Array:
    """`move(x)`, half precision as bits: XLA would move what it is wider, where it widens it."""
    if x.dtype.itemsize != 2:
        return move(x)
    return _as_bits(move, x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _as_bits(move: Callable[[Array], Array], x: Array) -> Array:
    bits = jax.lax.bitcast_convert_type(x, jnp.uint16)
    return jax.lax.bitcast_convert_type(move(bits), x.dtype)


@_as_bits.defjvp
def _tangent(
    move: Callable[[Array], Array], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return _as_bits(move, *primals), move(*tangents)
