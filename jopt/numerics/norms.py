"""Norms over one array or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import as_pairs, cast, compute_dtype, widest
from jopt.numerics.roots import safe_sqrt

SMALL = 65_536
"""An array of at most so many entries is read together with the other small ones."""


def sum_of_squares(x: Array) -> Array:
    """∑|xᵢ|², in at least float32; a complex entry counts |x|²."""
    return jnp.sum(jnp.square(_wide(x)))


def norm(x: Array) -> Array:
    """‖x‖₂ over every entry, in at least float32."""
    return safe_sqrt(sum_of_squares(x))


def global_norm(xs: Sequence[Array]) -> Array:
    """‖(x₁, x₂, …)‖₂ over every entry of every array, in at least float32; 0 for no arrays."""
    if not xs:
        return jnp.zeros(())
    wide = [_wide(x) for x in xs]
    dtype = widest(*(x.dtype for x in wide))
    return safe_sqrt(jnp.sum(partial([cast(x, dtype) for x in wide], jax.lax.square, _sum)))


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


def sharded(x: Array) -> bool:
    """Whether `x` is sharded by its very type: only a mesh of explicit axes puts it there."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def _wide(x: Array) -> Array:
    return as_pairs(cast(x, compute_dtype(x.dtype)))
