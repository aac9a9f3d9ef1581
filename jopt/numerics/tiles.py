"""An array cut along its axes into tiles of one shape, and put together again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.eigenbases import gram, in_basis
from jopt.numerics.explicit import reshaped, whole

Tiles = tuple[tuple[int, int], ...]
"""For each axis how many tiles stand along it, and how long they are."""


def tiles_of(shape: tuple[int, ...], longest: int) -> Tiles:
    """Tiles whose sides are at most so long, and as equal as can be."""
    counts = [max(1, math.ceil(n / longest)) for n in shape]
    return tuple((k, math.ceil(n / k)) for k, n in zip(counts, shape, strict=True))


def cut(x: Array, tiles: Tiles) -> Array:
    """The tiles, numbered by a first axis; what they have too much is 0.

    They are numbered row by row, those of a matrix that is longer than wide column by column.
    """
    shape = x.shape
    x = jnp.pad(x, [(0, k * b - n) for (k, b), n in zip(tiles, x.shape, strict=True)])
    x = reshaped(x, tuple(n for tile in tiles for n in tile))
    x = x.transpose(*_numbered(tiles, shape), *range(1, x.ndim, 2))
    count = math.prod(k for k, _ in tiles)
    return reshaped(x, (count, *(b for _, b in tiles)))


def joined(x: Array, tiles: Tiles, shape: tuple[int, ...]) -> Array:
    """What `cut` took apart."""
    order = [i // 2 for i in _numbered(tiles, shape)]
    d = len(tiles)
    x = reshaped(x, (*(tiles[i][0] for i in order), *(b for _, b in tiles)))
    x = x.transpose([i for axis in range(d) for i in (order.index(axis), d + axis)])
    x = reshaped(x, tuple(k * b for k, b in tiles))
    return x[tuple(slice(n) for n in shape)]


def grams(x: Array, axes: Iterable[int], tiles: Tiles) -> dict[int, Array]:
    """What the tiles have in common with themselves along axes, by their numbers from the last."""
    pieces = cut(whole(x, *range(x.ndim)), tiles)
    return {k: jax.vmap(lambda x, k=k: gram(x, x.ndim - k))(pieces) for k in axes}


def multiplied(x: Array, by: Mapping[int, Array], tiles: Tiles) -> Array:
    """An array of whose tiles each is multiplied by a symmetric matrix along each of these axes."""
    made = cut(whole(x, *range(x.ndim)), tiles)
    for k, q in by.items():
        made = jax.vmap(lambda x, q, k=k: in_basis(x, -k, q))(made, whole(q, 0, 1, 2))
    return joined(made, tiles, x.shape)


def _numbered(tiles: Tiles, shape: tuple[int, ...]) -> range:
    """The axes that number tiles, of those of numbers and sides in turn, the slowest first."""
    first = range(0, 2 * len(tiles), 2)
    return first[::-1] if len(shape) == 2 and shape[0] > shape[1] else first
