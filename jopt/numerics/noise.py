"""Random numbers whose key is data: two uint32 in a state, that each step exchanges for new ones.

What is drawn depends on the key and the name that it is drawn for, not on what else is drawn, nor
on how an array is split over devices. The generator is fixed, whatever jax's configuration.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import laid

IMPL = "threefry2x32"


def drawn(key: Array) -> tuple[Array, Array]:
    """From two uint32: the key of this step, and the two uint32 of the next."""
    this, following = jax.random.split(jax.random.wrap_key_data(key, impl=IMPL))
    return this, jax.random.key_data(following)


def signs(key: Array, names: Sequence[str], like: Sequence[Array]) -> list[Array]:
    """Independent signs, 1 or −1 with equal chances, for each entry of real arrays."""

    def drawn_for(own: Array, x: Array) -> Array:
        bits = jax.random.bits(own, x.shape, "uint32", out_sharding=laid(x, *range(x.ndim)))
        return jnp.where(bits >> 31 == 0, 1, -1).astype(x.dtype)

    return [drawn_for(*each) for each in zip(_own(key, "signs", names), like, strict=True)]


def gaussian(key: Array, names: Sequence[str], like: Sequence[Array]) -> list[Array]:
    """Independent normal numbers with mean 0 and variance 1, for each entry of real arrays."""

    def drawn_for(own: Array, x: Array) -> Array:
        where = laid(x, *range(x.ndim))
        return jax.random.normal(own, x.shape, x.dtype, out_sharding=where)

    return [drawn_for(*each) for each in zip(_own(key, "noise", names), like, strict=True)]


def _own(key: Array, what: str, names: Sequence[str]) -> Array:
    """A key for each name, all made by one kernel."""
    folded = [zlib.crc32(f"{what}/{name}".encode()) for name in names]
    keys: Array = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(folded, jnp.uint32))
    return keys
