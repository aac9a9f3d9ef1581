"""Blocks of a matrix as a TPU finds them where they lie.

Its arrays lie in tiles of 8 rows and 128 columns. To make an axis of blocks moves every entry to
another place, and writes down for each what its block shares. Where rows come in eights, whole
tiles are read, and two or more of them side by side are a block; elsewhere blocks are columns, if
they are few: each is read in kernels of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import stacked

SUBLANES, LANES = 8, 128
"""A tile's rows and columns."""

COLUMNS = 16
"""So many blocks of a row, at most, are read as columns."""

Maxima = Callable[[Array], Array]
"""Of an array with whole blocks along its last axis, the maximum of each."""
Spread = Callable[[Array], Array]
"""Of a number for each block, that of every entry."""


def views(shape: tuple[int, ...], block: int) -> tuple[Maxima, Spread] | None:
    """How blocks along the last axis are read where they lie; `None` if they cannot be.

    It is for arrays that one device holds: its part of a tile or a column would be none.
    """
    if len(shape) < 2 or shape[-1] % block:
        return None
    if shape[-2] % SUBLANES == 0 and block % LANES == 0:
        maxima, spread = maxima_of_tiles, spread_over_tiles
    elif shape[-1] <= COLUMNS * block:
        maxima, spread = maxima_of_columns, spread_over_columns
    else:
        return None
    return functools.partial(maxima, block=block), functools.partial(
        spread, shape=shape, block=block
    )


def maxima_of_tiles(x: Array, block: int) -> Array:
    """The maximum of each block, by the tiles' rows first."""
    *lead, rows, length = x.shape
    tiles = x.reshape(*lead, rows // SUBLANES, SUBLANES, length // LANES, LANES)
    each = jnp.max(tiles.swapaxes(-3, -2), axis=-1).swapaxes(-2, -1)
    most = jnp.max(each.reshape(*each.shape[:-1], length // block, block // LANES), axis=-1)
    return most.reshape(*lead, rows, length // block)


def spread_over_tiles(scale: Array, shape: tuple[int, ...], block: int) -> Array:
    """The number of every entry, by tiles: only within one is it written down many times."""
    *lead, rows, length = shape
    of = scale.reshape(*lead, rows // SUBLANES, SUBLANES, length // block).swapaxes(-2, -1)
    of = jnp.broadcast_to(of[..., None, :], (*of.shape[:-1], block // LANES, SUBLANES))
    # The barrier is for it to be made once for all kernels that read it.
    of = jax.lax.optimization_barrier(of.reshape(*of.shape[:-3], length // LANES, SUBLANES))
    each = jnp.broadcast_to(of[..., None], (*of.shape, LANES))
    return each.swapaxes(-3, -2).reshape(shape)


def maxima_of_columns(x: Array, block: int) -> Array:
    """The maximum of each block, one column of them after the other."""
    each = (x[..., i : i + block] for i in range(0, x.shape[-1], block))
    return stacked([jnp.max(one, axis=-1) for one in each], -1)


def spread_over_columns(scale: Array, shape: tuple[int, ...], block: int) -> Array:
    """The number of every entry, chosen by its column."""
    along = jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
    each = jnp.broadcast_to(scale[..., :1], shape)
    for i in range(1, scale.shape[-1]):
        each = jnp.where(along < i * block, each, scale[..., i : i + 1])
    return each
