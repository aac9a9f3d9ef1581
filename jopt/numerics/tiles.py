"""An array cut along its axes into tiles of one shape, and put together again."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

Tiles = tuple[tuple[int, int], ...]
"""For each axis how many tiles stand along it, and how long they are."""


def tiles_of(shape: tuple[int, ...], longest: int) -> Tiles:
    """Tiles whose sides are at most so long, and as equal as can be."""
    counts = [max(1, math.ceil(n / longest)) for n in shape]
    return tuple((k, math.ceil(n / k)) for k, n in zip(counts, shape, strict=True))


def cut(x: Array, tiles: Tiles) -> Array:
    """The tiles, numbered by a first axis; what they have too much is 0."""
    x = jnp.pad(x, [(0, k * b - n) for (k, b), n in zip(tiles, x.shape, strict=True)])
    x = x.reshape([n for tile in tiles for n in tile])
    x = x.transpose(*range(0, x.ndim, 2), *range(1, x.ndim, 2))
    return x.reshape(-1, *(b for _, b in tiles))


def joined(x: Array, tiles: Tiles, shape: tuple[int, ...]) -> Array:
    """What `cut` took apart."""
    d = len(tiles)
    x = x.reshape(*(k for k, _ in tiles), *(b for _, b in tiles))
    x = x.transpose([i for axis in range(d) for i in (axis, d + axis)])
    x = x.reshape([k * b for k, b in tiles])
    return x[tuple(slice(n) for n in shape)]
