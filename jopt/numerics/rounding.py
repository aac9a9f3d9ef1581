"""Rounding to a narrow dtype: to the nearest number, or up or down by chance.

Both work on the bits of the wider number: its exponent and leading digits are those of the
result, so adding to the trailing digits and cutting them off rounds. What is added decides how.
Derivatives are those of x, as for `astype`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike


def is_narrow(dtype: DTypeLike) -> bool:
    """Whether `dtype` is floating and holds less than float32, as bfloat16 and float16 do."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.finfo(dtype).bits < 32


@functools.partial(jax.jit, static_argnames="dtype")
def nearest(x: Array, dtype: DTypeLike) -> Array:
    """x rounded to the nearest number of `dtype`, ties to even, in the dtype of x.

    As `x.astype(dtype).astype(x.dtype)`, in whose place XLA may take x itself (it counts excess
    precision as no harm).
    """
    info, drop, bits = _taken_apart(x, dtype)
    magnitude = jnp.abs(x)
    half_way = jnp.asarray((1 << (drop - 1)) - 1, bits.dtype)
    rounded = _cut(bits + half_way + ((bits >> drop) & 1), x, drop)
    if _fewer_exponents(x, dtype):
        # Below the normal numbers the spacing is constant. Numbers as large as `coarse` have that
        # spacing in the dtype of x, so adding it rounds, and taking it off again is exact.
        tiny = magnitude < float(info.tiny)
        coarse = float(info.smallest_subnormal) * 2.0 ** jnp.finfo(x.dtype).nmant
        raised = magnitude + jnp.where(tiny, jnp.asarray(coarse, x.dtype), 0)
        rounded = jnp.where(tiny, raised - coarse, rounded)
        beyond = jnp.asarray(np.float32(np.inf).astype(dtype).astype(x.dtype))
        rounded = jnp.where(rounded <= float(info.max), rounded, beyond)
    return _straight_through(x, jnp.where(jnp.isnan(x), x, jnp.copysign(rounded, x)))


@functools.partial(jax.jit, static_argnames="dtype")
def stochastic(x: Array, dtype: DTypeLike, seed: Array) -> Array:
    """x rounded to one of its two neighbours in `dtype`, to each the likelier the nearer it is.

    With the neighbours a ≤ x ≤ b, the result is b with probability (x − a) / (b − a), so that
    its mean is x. A number of `dtype` stays. Beyond the largest number of `dtype`, where x
    has no two neighbours, rounding is to the nearest. Below float16's normal numbers, where x
    has more digits than are drawn, the odds are rounded to 2⁻¹³.

    **Arguments:** `seed`: two random uint32; see `random_bits`.

    Source: Gupta et al., 2015, "Deep learning with limited numerical precision", section 3.
    """
    info, drop, bits = _taken_apart(x, dtype)
    raised = jnp.zeros_like(x)
    if _fewer_exponents(x, dtype):
        # Numbers below the normal ones are raised by the least normal one: there the spacing is
        # the same, and the digits stand where they stand in a normal number.
        tiny = jnp.asarray(float(info.tiny), x.dtype)
        raised = jnp.where(jnp.abs(x) < tiny, tiny, 0)
        bits = jax.lax.bitcast_convert_type(jnp.abs(x) + raised, bits.dtype)
    drawn = random_bits(seed, x.shape)
    # float64 has more digits to drop than are drawn; the least of them are then cut off.
    drawn = (drawn >> max(32 - drop, 0)).astype(bits.dtype) << max(drop - 32, 0)
    rounded = jnp.copysign(_cut(bits + drawn, x, drop) - raised, x)
    rounded = jnp.where(jnp.abs(x) <= float(info.max), rounded, x).astype(dtype)
    return _straight_through(x, rounded)


def random_bits(seed: Array, shape: tuple[int, ...]) -> Array:
    """A random uint32 for each entry, a hash of its position and two words of seed.

    About twenty operations an entry, in the kernel that uses them, where jax's own generator
    takes a hundred; and of its position alone, so that sharding changes nothing. Rounding asks
    for no more than that: uniform bits, unlike those of other entries and seeds.

    Source: two rounds of C. Wellons' "lowbias32", 2018.
    """
    position = jnp.zeros(shape, "uint32")
    for axis in range(len(shape)):
        stride = jnp.uint32(int(np.prod(shape[axis + 1 :], dtype=object)) % 2**32)
        position += stride * jax.lax.broadcasted_iota("uint32", shape, axis)
    return _mixed(_mixed(position + seed[0]) ^ seed[1])


def _mixed(x: Array) -> Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _taken_apart(x: Array, dtype: DTypeLike) -> tuple[jnp.finfo, int, Array]:
    """What `dtype` can hold, how many digits x has more than that, and the bits of |x|."""
    wide, narrow = jnp.finfo(x.dtype), jnp.finfo(dtype)
    bits = jax.lax.bitcast_convert_type(jnp.abs(x), f"uint{wide.bits}")
    return narrow, wide.nmant - narrow.nmant, bits


def _fewer_exponents(x: Array, dtype: DTypeLike) -> bool:
    """Whether `dtype` has not all exponents of x, as bfloat16 has those of float32."""
    return float(jnp.finfo(dtype).tiny) != float(jnp.finfo(x.dtype).tiny)


def _cut(bits: Array, x: Array, drop: int) -> Array:
    return jax.lax.bitcast_convert_type(bits >> drop << drop, x.dtype)


@jax.custom_jvp
def _straight_through(x: Array, rounded: Array) -> Array:
    return rounded


_straight_through.defjvps(lambda x_dot, rounded, *_: x_dot.astype(rounded.dtype), None)
