"""Rounding to a narrow dtype: to the nearest number, or up or down by chance.

Both work on the bits of the wider number: its exponent and leading digits are those of the
result, so adding to the trailing digits and cutting them off rounds. What is added decides how.
The wider number is float32 or float64: those hold every number of the narrow dtypes.
Derivatives are those of x, as for `astype`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jopt.base import ConfigError


def is_narrow(dtype: DTypeLike) -> bool:
    """Whether `dtype` is floating and holds less than float32, as bfloat16 and float16 do."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.finfo(dtype).bits < 32


@functools.partial(jax.jit, static_argnames="dtype")
def nearest(x: Array, dtype: DTypeLike) -> Array:
    """x rounded to the nearest number of `dtype`, ties to even, in the dtype of x.

    As `x.astype(dtype).astype(x.dtype)`, in whose place XLA may take x itself (it counts excess
    precision as no harm).

    **Raises:** `ConfigError` for a `dtype` without negative numbers or without NaN.
    """
    info, drop, bits, sign = _taken_apart(x, dtype)
    half_way = jnp.asarray((1 << (drop - 1)) - 1, bits.dtype)
    rounded = bits + half_way + ((bits >> drop) & 1)
    rounded = rounded >> drop << drop
    if _fewer_exponents(x, dtype):
        # Below the normal numbers the spacing is constant. Numbers as large as `coarse` have that
        # spacing in the dtype of x, so adding it rounds, and taking it off again is exact.
        tiny = jnp.abs(x) < float(info.tiny)
        coarse = float(info.smallest_subnormal) * 2.0 ** jnp.finfo(x.dtype).nmant
        raised = jnp.abs(x) + jnp.where(tiny, jnp.asarray(coarse, x.dtype), 0)
        number = jnp.where(tiny, raised - coarse, _as_float(rounded, x.dtype))
        beyond = jnp.asarray(np.float32(np.inf).astype(dtype).astype(x.dtype))
        rounded = _as_bits(jnp.where(number <= float(info.max), number, beyond))
    signed = _as_float(_with_sign(rounded, sign, dtype), x.dtype)
    return _straight_through(x, jnp.where(jnp.isnan(x), x, signed))


@functools.partial(jax.jit, static_argnames="dtype")
def stochastic(x: Array, dtype: DTypeLike, seed: Array) -> Array:
    """x rounded to one of its two neighbours in `dtype`, to each the likelier the nearer it is.

    With the neighbours a ≤ x ≤ b, the result is b with probability (x − a) / (b − a), so that
    its mean is x. A number of `dtype` stays. Beyond the largest number of `dtype`, where x
    has no two neighbours, rounding is to the nearest. Below float16's normal numbers, where x
    has more digits than are drawn, the odds are rounded to 2⁻¹³.

    **Arguments:** `seed`: two random uint32; see `random_bits`.

    **Raises:** `ConfigError` for a `dtype` without negative numbers or without NaN.

    Source: Gupta et al., 2015, "Deep learning with limited numerical precision", section 3.
    """
    info, drop, bits, sign = _taken_apart(x, dtype)
    normal = 1 << info.nmant  # the bits of the least normal number
    least = np.asarray(info.tiny).astype(x.dtype).view(bits.dtype).item() >> drop
    # What is taken off for `dtype` counting its exponents from another start than x.
    start = jnp.asarray(least - normal, bits.dtype)
    if _fewer_exponents(x, dtype):
        # Numbers below the normal ones are raised by the least normal one: there the spacing is
        # the same, and the digits stand where they stand in a normal number.
        tiny = jnp.abs(x) < float(info.tiny)
        bits = _as_bits(jnp.abs(x) + jnp.where(tiny, jnp.asarray(float(info.tiny), x.dtype), 0))
        start = start + jnp.where(tiny, jnp.asarray(normal, bits.dtype), 0)
    drawn = random_bits(seed, x.shape)
    # float64 has more digits to drop than are drawn; the least of them are then cut off.
    drawn = (drawn >> max(32 - drop, 0)).astype(bits.dtype) << max(drop - 32, 0)
    rounded = ((bits + drawn) >> drop) - start
    # The bits become the number without a cast: one by way of float32 loses subnormal numbers.
    sign = sign >> (jnp.finfo(x.dtype).bits - info.bits)
    rounded = _with_sign(rounded, sign, dtype).astype(f"uint{info.bits}")
    within = jnp.abs(x) <= float(info.max)
    rounded = jnp.where(within, rounded, _as_bits(x.astype(dtype)))
    return _straight_through(x, _as_float(rounded, dtype))


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


def _taken_apart(x: Array, dtype: DTypeLike) -> tuple[jnp.finfo, int, Array, Array]:
    """What `dtype` can hold, how many digits x has more than that, the bits of |x|, its sign bit.

    By masks, since arithmetic, to which abs may count, takes subnormal numbers for 0 in places.
    """
    _check(dtype)
    wide, narrow = jnp.finfo(x.dtype), jnp.finfo(dtype)
    bits = _as_bits(x)
    sign = bits & jnp.asarray(1 << (wide.bits - 1), bits.dtype)
    return narrow, wide.nmant - narrow.nmant, bits ^ sign, sign


def _check(dtype: DTypeLike) -> None:
    held = np.asarray([-1, np.nan], np.float32).astype(dtype).astype(np.float32)
    if not np.array_equal(held, [-1, np.nan], equal_nan=True):
        raise ConfigError(
            "rounding",
            "a dtype cannot hold what rounds to it",
            expected="a dtype of negative numbers and NaN, as bfloat16 or float8_e4m3fn",
            found=jnp.dtype(dtype).name,
            fix="Keep these numbers in a wider dtype.",
        )


def _with_sign(bits: Array, sign: Array, dtype: DTypeLike) -> Array:
    if np.signbit(np.float32(-0.0).astype(dtype)):
        return bits | sign
    return jnp.where(bits == 0, bits, bits | sign)  # what would be -0 is `dtype`'s NaN


def _as_bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, f"uint{jnp.finfo(x.dtype).bits}")


def _as_float(bits: Array, dtype: DTypeLike) -> Array:
    return jax.lax.bitcast_convert_type(bits, dtype)


def _fewer_exponents(x: Array, dtype: DTypeLike) -> bool:
    """Whether `dtype` has not all exponents of x, as bfloat16 has those of float32."""
    return float(jnp.finfo(dtype).tiny) != float(jnp.finfo(x.dtype).tiny)


@jax.custom_jvp
def _straight_through(x: Array, rounded: Array) -> Array:
    return rounded


_straight_through.defjvps(lambda x_dot, rounded, *_: x_dot.astype(rounded.dtype), None)
