"""Random numbers whose key is data: two uint32 in a state, that each step exchanges for new ones.

What is drawn depends on the key and the name that it is drawn for, not on what else is drawn, nor
on how an array is split over devices. The generator is fixed, whatever jax's configuration.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import laid

IMPL = "threefry2x32"


def drawn(key: Array) -> tuple[Array, Array]:
    """From two uint32: the key of this step, and the two uint32 of the next."""
    this, following = jax.random.split(jax.random.wrap_key_data(key, impl=IMPL))
    return this, jax.random.key_data(following)


def signs(key: Array, name: str, like: Array) -> Array:
    """Independent signs, 1 or −1 with equal chances, for each entry of a real array."""
    own = jax.random.fold_in(key, jnp.uint32(zlib.crc32(f"signs/{name}".encode())))
    where = laid(like, *range(like.ndim))
    bits = jax.random.bits(own, like.shape, "uint32", out_sharding=where)
    return jnp.where(bits >> 31 == 0, 1, -1).astype(like.dtype)


def gaussian(key: Array, name: str, like: Array) -> Array:
    """Independent normal numbers with mean 0 and variance 1, for each entry of a real array."""
    own = jax.random.fold_in(key, jnp.uint32(zlib.crc32(f"noise/{name}".encode())))
    where = laid(like, *range(like.ndim))
    return jax.random.normal(own, like.shape, like.dtype, out_sharding=where)
