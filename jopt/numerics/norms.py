"""Norms over one array or many."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import as_pairs, cast, compute_dtype, widest
from jopt.numerics.explicit import sharded
from jopt.numerics.once import once_if
from jopt.numerics.roots import safe_sqrt

SMALL = 65_536
"""An array of at most so many entries is read together with the other small ones."""


def sum_of_squares(x: Array) -> Array:
    """∑|xᵢ|², in at least float32; a complex entry counts |x|²."""
    return jnp.sum(jnp.square(_wide(x)))


def norm(x: Array) -> Array:
    """‖x‖₂ over every entry, in at least float32."""
    factors, norms = scaled_norms([x])
    return norms[0] / factors[0]


def global_norm(xs: Sequence[Array]) -> Array:
    """‖(x₁, x₂, …)‖₂ over every entry of every array, in at least float32; 0 for no arrays."""
    factor, scaled = scaled_norm(xs)
    return scaled / factor


def scaled_norm(xs: Sequence[Array]) -> tuple[Array, Array]:
    """f and ‖f·(x₁, x₂, …)‖₂, for f a power of two that keeps the squares in range.

    The squares of float32 numbers beyond 10¹⁹ or below 10⁻¹⁹ are out of range, and even the norm
    of finite numbers may be. Nearly always f is 1. Else everything is read a second time, times
    f: a finite norm is right for all finite entries, but for what a CPU takes for 0 (XLA sets it
    so that it does with subnormal numbers). Infinite entries have an infinite norm.
    """
    if not xs:
        return jnp.ones(()), jnp.zeros(())
    wide = [_wide(x) for x in xs]
    dtype = widest(*(x.dtype for x in wide))
    alike = [cast(x, dtype) for x in wide]
    total = jnp.sum(partial(alike, jax.lax.square, _sum))

    size = sum(x.size for x in alike)
    factor = range_factor(total, size)

    def again(_: Array) -> Array:
        return jnp.sum(partial(alike, lambda x: jax.lax.square(x * factor), _sum))

    return factor, safe_sqrt(once_if(_left(total, size), again, total))


def scaled_norms(xs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """`scaled_norm` of each array alone. If one needs a second look, all are read again."""
    wide = [_wide(x) for x in xs]
    totals = [jnp.sum(jnp.square(x)) for x in wide]
    sizes = [x.size for x in xs]
    factors = [*map(range_factor, totals, sizes)]

    def again(_: list[Array]) -> list[Array]:
        return [jnp.sum(jnp.square(x * f)) for x, f in zip(wide, factors, strict=True)]

    anywhere = functools.reduce(operator.or_, map(_left, totals, sizes), jnp.zeros((), bool))
    return factors, [safe_sqrt(t) for t in once_if(anywhere, again, totals)]


def trusted(
    x: Array,
    p: Array,
    d: Array,
    *,
    coefficient: Array | float = 1.0,
    eps: Array | float = 0.0,
    low: Array | None = None,
    high: Array | None = None,
    most: Array | None = None,
) -> Array:
    """x·min(c·φ(‖p‖) / (‖d‖ + ε), r), the trust ratio of LARS and LAMB.

    φ(a) = min(max(a, low), high) and r is `most`, each if given; x where φ(‖p‖) or ‖d‖ is 0.
    """
    (of_p, of_d), (p_norm, d_norm) = scaled_norms([p, d])
    held = p_norm / of_p
    held = held if low is None else jnp.maximum(held, low)
    held = held if high is None else jnp.minimum(held, high)
    none = (held == 0) | (d_norm == 0)
    share = coefficient * held / jnp.where(none, 1, d_norm + eps * of_d)
    share = share if most is None else jnp.minimum(share, most / of_d)
    # The power of two first: where ‖d‖ is out of range, the ratio alone may be, too.
    return jnp.where(none, x, share * (of_d * x))


def scaled_matrix_norms(x: Array) -> tuple[Array, Array]:
    """`scaled_norm` of each matrix of a batch of shape (k, m, n), both of shape (k, 1, 1)."""

    def total(by: Array | None = None) -> Array:
        wide = _wide(x)
        wide = wide if by is None else wide * by
        return jnp.sum(jnp.square(wide), axis=(-2, -1), keepdims=True)

    first, size = total(), math.prod(x.shape[1:])
    factors = range_factor(first, size)
    again = once_if(jnp.any(factors != 1), lambda _: total(factors), first)
    return factors, safe_sqrt(again)


def _left(total: Array, size: int) -> Array:
    """Whether the sum of so many squares is infinite, or so small that some of them are lost."""
    info = jnp.finfo(total.dtype)
    return jnp.isinf(total) | (total < float(info.tiny) / float(info.eps) * size)


def range_factor(total: Array, size: int) -> Array:
    """What to multiply so many numbers by whose squares have this sum: 1, or a power of two."""
    # Three quarters of all exponents: the largest number's square and the least one's are then in
    # range, and what is lost of smaller ones beside them is beyond the digits of the sum.
    up = 2.0 ** (jnp.finfo(total.dtype).maxexp * 3 // 4)
    one = jnp.ones_like(total)
    return jnp.where(_left(total, size), jnp.where(jnp.isinf(total), one / up, one * up), one)


def _sum(x: Array, axis: int | None = None) -> Array:
    # The primitive: jnp's own takes tracing five times as long, and it is one for each array.
    axes = range(x.ndim) if axis is None else [axis % x.ndim]
    total: Array = jax.lax.reduce_sum(x, tuple(axes))
    return total


def all_finite(xs: Sequence[Array]) -> Array:
    """Whether no entry of any array is infinite or NaN; true for no arrays.

    It reads the arrays in the pieces that `global_norm` reads them in, so that a program that
    needs both reads them once.
    """
    if not xs:
        return jnp.ones((), bool)
    return jnp.all(partial([_wide(x) for x in xs], jnp.isfinite, jnp.all))


def partial(
    xs: Sequence[Array], each: Callable[[Array], Array], over: Callable[..., Array]
) -> Array:
    """`over` of `each` for pieces of the arrays, as one array that `over` finishes.

    An array alone costs a GPU two kernels, one for pieces and one for the whole, and a small
    array as many as a large one. Here a large array is reduced along its last axis, in one
    kernel; small ones are joined and read by one. The barrier keeps XLA from undoing it. What
    is sharded by its very type cannot be joined, and is reduced on its own.
    """
    whole = [x for x in xs if not sharded(x)]
    small = [_flat(x) for x in whole if x.size <= SMALL]
    large = [_flat(over(each(x), axis=-1)) for x in whole if x.size > SMALL]
    large = jax.lax.optimization_barrier(large)
    parts = [jax.lax.optimization_barrier(jax.lax.concatenate(large, 0))] if large else []
    if small:
        parts.append(over(each(jax.lax.concatenate(small, 0)))[None])
    parts += [over(each(x))[None] for x in xs if sharded(x)]
    return jnp.concatenate(parts)


def _flat(x: Array) -> Array:
    return x if x.ndim == 1 else jax.lax.reshape(x, (x.size,))


def _wide(x: Array) -> Array:
    return as_pairs(cast(x, compute_dtype(x.dtype)))
