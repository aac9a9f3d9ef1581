"""Eight bits an entry: blocks of entries that share a scale, and a map from codes to [−1, 1].

The map is the dynamic one of Dettmers et al., 2022 ("8-bit optimizers via block-wise
quantization", section 1.3), as bitsandbytes has it: seven decades up to 1, the higher ones cut
into more cells, and the middles of the cells the values. Signed, decade i = 0, ..., 6 has 2ⁱ
cells on either side of 0; unsigned, 2ⁱ⁺¹ cells. Beside them there are 0 and 1, 256 values in all,
and a code is the rank of a value.

With k the rank from 0 (unsigned: the code plus 1) and 2ⁱ the power of two in k, all values are

    (18·k + 9 − 16·2ⁱ)·5ⁱ / c,    c = 2·10⁷ signed, 2·10⁸ unsigned

so that no table is needed, one way or the other.

We depart from the source in three ways. The scale has the sign of the entry that is the largest, so
that this entry is 1, exactly: the signed map has no −1, and a block that is stored again and
again would shrink. Rounding is dithered, see `numerics.dither`. And unsigned, nothing above 0 is
stored as 0: what divides by a second moment would be thrown far off.

All but `scales` and `spread` works without tables or gathers: kernels call it on their tiles.

One entry that is infinite or NaN leaves its block's neighbours alone: it is no part of the scale.
A second moment that is infinite, as 10²⁰ squared is, has to stay so: it is why the entry rests.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.dither import thresholds
from jopt.numerics.explicit import may_be_split, sharded, whole
from jopt.numerics.tpu_blocks import Maxima, Spread, views

DECADES = 7

BELOW_ONE = 1 - 0.45 / 128
"""The greatest value of the unsigned map but 1: the middle of its last cell."""


def folded(shape: tuple[int, ...], block: int) -> tuple[int, int]:
    """How many leading axes stay as they are, and the length of the rest as one row.

    A row is as few of the last axes as hold a block. Blocks lie in rows, one after the other;
    the last one of a row may be shorter.
    """
    lead = len(shape)
    while (lead and math.prod(shape[lead:]) < block) or lead == len(shape) > 0:
        lead -= 1
    return lead, math.prod(shape[lead:])


def grain(shape: tuple[int, ...], block: int) -> tuple[int, ...]:
    """For each axis, how many entries must stay on one device for blocks to stay whole."""
    lead, length = folded(shape, block)
    rows = block // math.gcd(block, length // shape[lead])
    return (*(1,) * lead, min(rows, shape[lead]), *shape[lead + 1 :])


def scales(x: Array, block: int, signed: bool) -> Array:
    """One number a block: the finite entry of the largest magnitude, with its sign if `signed`.

    It is 0 for zeros, and for a signed block without a normal number, and 2¹²⁶ for larger ones.
    Unsigned, the sign says whether an entry is infinite or NaN: below 0 the code 255 is that
    entry, and `BELOW_ONE` times the scale the largest of the others.
    """
    lead, length = folded(x.shape, block)
    if sharded(x):
        own = jax.typeof(x).sharding.shard_shape(x.shape)
        if any(n % of for n, of in zip(own, grain(x.shape, block), strict=True)):
            x = whole(x, *range(lead, x.ndim))  # blocks that shards share: all read all of them

    def apart(x: Array) -> Array:
        count = -(-length // block)
        rows = x.reshape(*x.shape[:lead], length)
        spare = count * block - length
        if spare:
            rows = jnp.pad(rows, [(0, 0)] * lead + [(0, spare)])
        return rows.reshape(*x.shape[:lead], count, block)

    def default(x: Array) -> Array:
        return scales_of_rows(apart(x), signed, two=signed)

    def on_cpu(x: Array) -> Array:
        least = functools.partial(_of_parts, of=_least_of_rows)
        return scales_of_rows(apart(x), signed, of=_of_parts, least=least)

    def where_they_lie(x: Array) -> Array:
        assert seen is not None, "is not asked then"
        return scales_of_rows(x, signed, of=seen[0])

    seen = _views(x, x.shape, block)
    found: Array = jax.lax.platform_dependent(
        x, cpu=on_cpu, tpu=where_they_lie if seen else default, default=default
    )
    return found


def _views(x: Array, shape: tuple[int, ...], block: int) -> tuple[Maxima, Spread] | None:
    """How a TPU reads blocks of such an array; `None` if as others do."""
    lead, _ = folded(shape, block)
    return None if lead != len(shape) - 1 or sharded(x) or may_be_split(x) else views(shape, block)


PART = 32
"""XLA for CPUs makes the maximum of a longer row in two passes, and writes down what it is of."""


def _of_rows(x: Array) -> Array:
    most: Array = jnp.max(x, axis=-1)
    return most


def _of_parts(x: Array, of: Callable[[Array], Array] = _of_rows) -> Array:
    """The maximum along the last axis, or what else `of` finds there."""
    if x.shape[-1] % PART:
        return of(x)
    parts = of(x.reshape(*x.shape[:-1], x.shape[-1] // PART, PART))
    return of(jax.lax.optimization_barrier(parts))


def _least_of_rows(x: Array) -> Array:
    least: Array = jnp.min(x, axis=-1)
    return least


def scales_of_rows(
    x: Array,
    signed: bool,
    two: bool = False,
    of: Callable[[Array], Array] = _of_rows,
    least: Callable[[Array], Array] | None = None,
) -> Array:
    """The same for an array whose last axis is a block each.

    With `two` the largest above 0 and the largest below are found apart: a GPU reads the array
    once for both, and a CPU twice. `of` makes the maximum of rows of integers; `least` the minimum,
    for a CPU to find both that a block needs in one kernel, which it does not of two maxima.
    """
    # As integers, for a maximum of floats takes no notice of NaN on a CPU or in Triton.
    integer = jnp.dtype(f"int{jnp.finfo(x.dtype).bits}")
    bits, sign = jax.lax.bitcast_convert_type(x, integer), jnp.iinfo(integer).min
    # As Python numbers: a kernel may not close over arrays.
    beyond = ((1 << jnp.finfo(x.dtype).nexp) - 1) << jnp.finfo(x.dtype).nmant  # the bits of ∞
    # Compilers multiply by 1 / scale, which of the largest numbers counts as 0.
    greatest = 1 / float(jnp.finfo(x.dtype).tiny)
    size = bits & ~sign
    finite = jnp.where(size < beyond, size, 0)
    if not signed:
        if least is None:
            flawed, largest = of(size) >= beyond, of(finite)
        else:
            # Turned over, for XLA to make them and what is done with them one kernel.
            flawed = (least(beyond - 1 - size) ^ sign) >= 0
            largest = (of(finite) ^ sign) & ~sign
        most = jax.lax.bitcast_convert_type(largest, x.dtype)
        # Not 0 for what is above it, and of a sign.
        some = jax.lax.bitcast_convert_type(most, integer) > 0
        most = jnp.maximum(most, float(jnp.finfo(x.dtype).tiny))
        raised = jnp.minimum(jnp.minimum(most, greatest) * (1 / BELOW_ONE), greatest)
        return jnp.where(flawed, -raised, jnp.where(some, jnp.minimum(most, greatest), 0))
    if two:
        bits = jnp.where(size < beyond, bits, 0)
        above, below = (jnp.maximum(of(b), 0) for b in (bits, bits ^ sign))
        largest, falls = jnp.maximum(above, below), above <= below
    else:
        # A sign bit at the end comes along, and the order is that of integers without a sign.
        key = of(((finite << 1) | (bits < 0).astype(integer)) ^ sign) ^ sign
        largest, falls = (key >> 1) & ~sign, key & 1 == 1
    most = jax.lax.bitcast_convert_type(largest, x.dtype)
    most = jnp.where(most < float(jnp.finfo(x.dtype).tiny), 0, jnp.minimum(most, greatest))
    return jnp.where(falls, -most, most)


def spread(scale: Array, shape: tuple[int, ...], block: int) -> Array:
    """The scale of every entry."""
    lead, length = folded(shape, block)

    def in_rows(scale: Array) -> Array:
        rows = jnp.broadcast_to(scale[..., None], (*scale.shape, block))
        return rows.reshape(*shape[:lead], -1)[..., :length].reshape(shape)

    seen = _views(scale, shape, block)
    if seen is None:
        return in_rows(scale)
    found: Array = jax.lax.platform_dependent(scale, tpu=seen[1], default=in_rows)
    return found


def to_codes(x: Array, scale: Array, turns: Array, signed: bool) -> Array:
    """The codes of x, whose entries have these scales and turns, see `numerics.dither`.

    What is infinite is stored as the largest of its block with its sign, and NaN as 0, if signed;
    unsigned, both as the code that says so.
    """
    y = (x / jnp.where(scale == 0, jnp.inf, scale)).astype(jnp.float32)
    # No maxima, minima and conversions of floats: they mind NaN and what an integer cannot hold,
    # for which a CPU takes longer. These comparisons make 0 of NaN.
    size = jnp.abs(y)
    size = jnp.where(size > 0, size, 0)
    size = jnp.where(size < 1, size, 1)
    cells = [2.0 ** (i if signed else i + 1) for i in range(DECADES)]
    firsts = [10.0 ** (i - 6) * (0.1 + 0.45 / n) for i, n in enumerate(cells)]
    n, to_one = jnp.float32(cells[0]), jnp.float32(1e6)
    for i in range(1, DECADES):
        above = size >= firsts[i]
        n = jnp.where(above, cells[i], n)
        to_one = jnp.where(above, 10.0 ** (6 - i), to_one)
    # The place among the ranks: linear from value to value. From the last value of a decade to
    # the next it is three cells' width, and from the very last to 1 half a cell's.
    t = (size * to_one - 0.1) * (n / 0.9) - 0.5
    last = n - 1
    slope = jnp.where(size >= firsts[-1], 2.0, 1 / 3)
    beyond = t - last
    rank = n + jnp.where(beyond > 0, last, t) + jnp.where(beyond > 0, beyond, 0) * slope
    least = cells[0] - 1
    # A mean of squares that became 0 would make a step without measure: it becomes the least value.
    below = least + (size / firsts[0] if signed else jnp.where(size > 0, 1.0, 0.0))
    rank = jnp.where(size < firsts[0], below, rank)
    # Beside 2²³ a float has no place for fractions, and its last bits are the integer.
    held = jnp.floor(rank + thresholds(turns)) + 2.0**23
    k = jax.lax.bitcast_convert_type(held, jnp.int32) - 0x4B000000
    if not signed:
        code = jnp.where(scale < 0, jnp.minimum(k - 1, 254), k - 1)
        return jnp.where(jnp.isfinite(x), code, 255).astype(jnp.uint8)
    return (127 + jnp.where(y < 0, -jnp.minimum(k, 127), k)).astype(jnp.uint8)


def of_blocks(codes: Array, scale: Array, signed: bool) -> Array:
    """The entries with these codes and scales: what `to_codes` was given, nearly."""
    value = of_codes(codes, signed).astype(scale.dtype) * scale
    if signed:
        return value
    beyond = (scale < 0) & (codes == 255)
    return jnp.where(beyond, jnp.asarray(jnp.inf, value.dtype), jnp.abs(value))


def of_codes(codes: Array, signed: bool) -> Array:
    """The values of the codes, in [−1, 1], in float32."""
    rank = codes.astype(jnp.int32) - 127 if signed else codes.astype(jnp.int32) + 1
    k = jnp.abs(rank)
    bits = jax.lax.bitcast_convert_type(k.astype(jnp.float32), jnp.int32)
    i = (bits >> 23) - 127
    power = jax.lax.bitcast_convert_type((bits >> 23) << 23, jnp.float32)
    five = jnp.float32(1 / 2e7 if signed else 1 / 2e8)
    for bit, factor in ((1, 5.0), (2, 25.0), (4, 625.0)):
        five = jnp.where(i & bit, five * factor, five)
    value = (18 * k.astype(jnp.float32) + 9 - 16 * power) * five
    least, most = (0, 128) if signed else (1, 256)
    value = jnp.where(k == least, 0, jnp.where(k == most, 1, value))
    return jnp.where(rank < 0, -value, value) if signed else value
