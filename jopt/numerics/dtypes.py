"""Which dtype arithmetic is done in, and complex arrays as pairs of reals."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

_SINGLE = jnp.dtype(jnp.float32)


def compute_dtype(dtype: DTypeLike) -> jnp.dtype:
    """At least float32: bfloat16 and float16 widen, float32, float64 and complex stay.

    >>> compute_dtype(jnp.bfloat16), compute_dtype(jnp.complex64)
    (dtype('float32'), dtype('complex64'))
    """
    return _widest(jnp.dtype(dtype), _SINGLE)


def widest(*dtypes: DTypeLike) -> jnp.dtype:
    """The inexact dtype that holds all of these; also where jax forbids implicit promotion."""
    return _widest(*(jnp.dtype(d) for d in dtypes))


@functools.lru_cache(maxsize=256)  # asked for every leaf, and jax takes its time over it
def _widest(*dtypes: jnp.dtype) -> jnp.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.dtype(functools.reduce(jnp.promote_types, dtypes))


def cast(x: Array, dtype: DTypeLike) -> Array:
    """`x.astype(dtype)`, and nothing for tracing to record where `x` is that already."""
    return x if x.dtype == dtype and not x.weak_type else x.astype(dtype)


@functools.lru_cache(maxsize=256)
def _of_sum(p: jnp.dtype, u: jnp.dtype) -> jnp.dtype:
    return widest(compute_dtype(p), u)


def wide_sum(p: Array, u: Array) -> Array:
    """p + u in at least float32, and in the wider dtype of the two.

    An update of more digits than float32's, as wide masters give, keeps them up to the sum.
    """
    wide = _of_sum(p.dtype, u.dtype)
    return jax.lax.add(cast(p, wide), cast(u, wide))


@functools.lru_cache(maxsize=64)
def real_dtype(dtype: DTypeLike) -> jnp.dtype:
    """The dtype of one component: float32 for complex64, unchanged for reals."""
    return jnp.finfo(dtype).dtype


@functools.lru_cache(maxsize=64)
def is_complex(dtype: DTypeLike) -> bool:
    """Whether `dtype` is complex."""
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def as_pairs(x: Array) -> Array:
    """A complex array of shape `s` as reals of shape `s + (2,)`; a real array unchanged."""
    return jnp.stack([x.real, x.imag], axis=-1) if is_complex(x.dtype) else x


def as_complex(x: Array) -> Array:
    """The inverse of `as_pairs` for complex arrays."""
    return jax.lax.complex(x[..., 0], x[..., 1])


def number_dtype() -> jnp.dtype:
    """The dtype of hyperparameters: float32, or float64 when x64 is enabled."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(jnp.float64))
