"""Rounding up or down in turn, so that what is lost in one step comes back in others.

A running mean moves by little more than its own last digit: rounded to the nearest number it
stands still, and forgets nothing. Dithered rounding adds a threshold from [0, 1) to what is cut
off. The thresholds of one entry run through the golden-ratio sequence, step by step, from a
start of its own: evenly spread, in no need of a key, and the same wherever the entry lives.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

GOLDEN = 0x9E3779B9
"""2³² / φ: the multiples of it, modulo 2³², are spread as evenly as can be."""

MARGIN = 2.0**-12
"""Thresholds keep this distance from 0 and 1: a number that is on the grid already stays."""


def turns(shape: tuple[int, ...], step: Array, seed: int = 0) -> Array:
    """A uint32 for every entry: its place in its sequence at this step."""
    index = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        # One iota an axis, not one for all: each device can then make its own part.
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        index = index + along * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return turns_at(index, step, seed)


def turns_at(index: Array, step: Array, seed: int = 0) -> Array:
    """The same for entries of these places, uint32, in the array as one row."""
    return turned((index + jnp.uint32(seed % 2**32)) * jnp.uint32(GOLDEN), step)


def turned(start: Array, step: Array) -> Array:
    """The same from `start`, which is place and seed, added up, times `GOLDEN`."""
    mixed = (start ^ (start >> 15)) * jnp.uint32(0x85EBCA6B)
    mixed = mixed ^ (mixed >> 13)
    turned: Array = mixed + step.astype(jnp.uint32) * jnp.uint32(GOLDEN)
    return turned


def thresholds(turns: Array) -> Array:
    """The same as float32 numbers from [2⁻¹², 1 − 2⁻¹²]."""
    return MARGIN + (turns >> 8).astype(jnp.float32) * ((1 - 2 * MARGIN) * 2.0**-24)


@jax.custom_jvp
def to_bfloat16(x: Array, turns: Array) -> Array:
    """A float32 array as bfloat16, up or down by its turn; what bfloat16 can hold stays.

    Infinities and NaN stay, and no finite number becomes one. The derivative is that of x.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    # Adding to the bits of the greatest numbers would make infinities of them.
    sign, most = bits & jnp.uint32(0x80000000), jnp.uint32(0x7F7F0000)
    cut = jnp.minimum((bits ^ sign) + (turns >> 16), most | jnp.uint32(0xFFFF))
    cut = (cut & jnp.uint32(0xFFFF0000)) | sign
    rounded = jax.lax.bitcast_convert_type(cut, jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


to_bfloat16.defjvps(lambda x_dot, rounded, *_: x_dot.astype(rounded.dtype), None)
