"""Lists of arrays as one vector: inner products, norms and steps, without joining the arrays."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import widest

Vector = list[Array]


def _over(xs: Iterable[Array], f: Callable[[Array, Array], Array]) -> Array:
    # Arrays may differ in dtype: what is computed of all of them has the widest.
    known = list(xs)
    wide = widest(*(x.dtype for x in known))
    return functools.reduce(f, [x.astype(wide) for x in known])


def vector_dot(x: Vector, y: Vector) -> Array:
    """x·y."""
    return _over((jnp.sum(a * b) for a, b in zip(x, y, strict=True)), operator.add)


def vector_l1(x: Vector) -> Array:
    """‖x‖₁."""
    return _over((jnp.sum(jnp.abs(a)) for a in x), operator.add)


def vector_max(x: Vector) -> Array:
    """max|xᵢ|; 0 if there are no entries."""
    return _over((jnp.max(jnp.abs(a), initial=0) for a in x), jnp.maximum)


def vector_step(x: Vector, t: Array, d: Vector) -> Vector:
    """x + t·d."""
    return [a + t.astype(a.dtype) * b for a, b in zip(x, d, strict=True)]


def row_dots(rows: Vector, x: Vector) -> Array:
    """The inner product of `x` with each of m rows, for rows of shape (m, *xᵢ.shape)."""
    return _over((_row_dots(r, a) for r, a in zip(rows, x, strict=True)), operator.add)


def _row_dots(rows: Array, x: Array) -> Array:
    # A contraction, which no backend spreads out; at full precision also where products are not.
    axes = tuple(range(x.ndim))
    over = (tuple(a + 1 for a in axes), axes), ((), ())
    return jax.lax.dot_general(rows, x, over, precision=jax.lax.Precision.HIGHEST)
