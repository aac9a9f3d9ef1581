"""What optimizers that draw have drawn: a stream of normal numbers for each seed and turn.

Of one key as many numbers as one wants begin with the same ones, so that all shapes share a draw.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

TURNS, MOST = 60, 64


def _key(seed, turn):
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), turn)


@functools.cache
def projections(seed):
    """For each turn from 0."""
    draw = jax.vmap(lambda t: jax.random.normal(_key(seed, t), (MOST,), jnp.float64))
    return np.asarray(jax.jit(draw)(jnp.arange(TURNS)))


@functools.cache
def fits(seed):
    """For each step, from 1 on: two uniform numbers, and normal ones."""

    def draw(t):
        key, one, two = jax.random.split(_key(seed, t), 3)
        both = [jax.random.uniform(k, (), jnp.float32) for k in (one, two)]
        return *both, jax.random.normal(key, (MOST,), jnp.float64)

    return [np.asarray(x) for x in jax.jit(jax.vmap(draw))(jnp.arange(TURNS))]


def as_drawn(numbers, shape):
    """The first of them in a shape, as it is drawn for: a tall matrix lies turned over."""
    x = numbers[: math.prod(shape)]
    tall = len(shape) == 2 and shape[0] > shape[1]
    return x.reshape(shape[::-1]).T if tall else x.reshape(shape)
