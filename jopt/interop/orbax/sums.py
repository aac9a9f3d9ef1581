"""A checksum of an array that is the same however the array is cut up.

A CRC has to see the bytes in order, on one machine. This is a sum of all 32-bit words, each
times an odd number that its place determines, modulo 2³². A sum does not care about order, so
every device adds up its own part. Odd factors have inverses modulo 2³²: one changed word, and so
one flipped bit, always changes the sum. Of other accidents one in 2³² escapes.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

_CHUNK = 2**20


def checksum(x: Any) -> str:
    """The sum of an array as 8 hex digits; collective if other processes hold parts of it."""
    if isinstance(x, jax.Array) and not _is_on_host(x):
        total = _sum_for(x.sharding)(x).addressable_data(0)
        return f"{int(np.asarray(total)):08x}"
    return f"{_on_host(np.asarray(x)):08x}"


def _is_on_host(x: jax.Array) -> bool:
    devices: Any = x.sharding.device_set
    return [device.platform for device in devices] == ["cpu"] and x.is_fully_addressable


def _on_host(x: np.ndarray[Any, Any]) -> int:
    words = _words_on_host(np.ascontiguousarray(x).reshape(-1))
    total = 0
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK].astype(np.uint32)
        places = (np.arange(len(part), dtype=np.uint64) + start).astype(np.uint32)
        total += int(np.sum(part * _factor(places), dtype=np.uint64))
    return total % 2**32


def _words_on_host(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    size = x.dtype.itemsize
    if size >= 4:
        return x.view(np.uint32)
    words: np.ndarray[Any, Any] = x.view(np.uint8 if size == 1 else np.uint16)
    if _bits(x.dtype) < 8:  # the rest of the byte is nobody's
        words = np.bitwise_and(words, 2 ** _bits(x.dtype) - 1)
    return words


def _bits(dtype: Any) -> int:
    if dtype == np.bool_:
        return 8
    integer = jnp.issubdtype(dtype, jnp.integer)
    return int((jnp.iinfo if integer else jnp.finfo)(dtype).bits)


@functools.cache
def _sum_for(sharding: Any) -> Any:
    if not isinstance(sharding, NamedSharding):
        return jax.jit(_sum)
    # On every device, so that every process can read it.
    return jax.jit(_sum, out_shardings=NamedSharding(sharding.mesh, PartitionSpec()))


def _sum(x: jax.Array) -> jax.Array:
    words = _words(x)
    shape = words.shape
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        place = place + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    return jnp.sum(words * _factor(place), dtype=jnp.uint32)


def _words(x: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        parts = jnp.stack([jnp.real(x), jnp.imag(x)], axis=-1)
        words = _words(parts)
        return words.reshape(*x.shape, -1)
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    bits = _bits(x.dtype)
    unsigned = {2: jnp.uint2, 4: jnp.uint4, 8: jnp.uint8, 16: jnp.uint16}.get(bits, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _factor(place: Any) -> Any:
    # A mixer of 32 bits (Wellons, 2018, "lowbias32"), made odd.
    place = place ^ (place >> np.uint32(16))
    place = place * np.uint32(0x7FEB352D)
    place = place ^ (place >> np.uint32(15))
    place = place * np.uint32(0x846CA68B)
    place = place ^ (place >> np.uint32(16))
    return place | np.uint32(1)
