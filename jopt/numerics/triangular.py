"""Preconditioners Qᵀ·Q of PSGD, Q one triangular or diagonal matrix for each axis of an array."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from jopt.numerics.decompositions import solved_below
from jopt.numerics.eigenbases import EXACT, gram, in_basis
from jopt.numerics.explicit import whole

Factors = Mapping[int, Array]
"""By the number of the axis from the last, which is 1: n×n upper triangular, or n entries."""


def multiplied(x: Array, qs: Factors, *, turned: bool = False) -> Array:
    """Q·x along each axis; with `turned` Qᵀ·x."""
    for k, q in qs.items():
        x = in_basis(x, -k, q, back=not turned) if q.ndim > 1 else x * along(q, k, x.ndim)
    return x


def along(q: Array, k: int, ndim: int) -> Array:
    """A vector that runs along the k-th axis from the last, with length 1 along the others."""
    return whole(q, 0).reshape([-1 if i == ndim - k else 1 for i in range(ndim)])


def solved(v: Array, qs: Factors) -> Array:
    """Q⁻ᵀ·v along each axis."""
    for k, q in qs.items():
        if q.ndim > 1:
            rows = jnp.moveaxis(v, -k, 0)
            found = solved_below(whole(q, 0, 1), rows.reshape(len(q), -1))
            v = jnp.moveaxis(found.reshape(rows.shape), 0, -k)
        else:
            v = v / along(q, k, v.ndim)
    return v


def balanced(qs: Factors) -> dict[int, Array]:
    """The same product, of factors whose largest entries are equal."""
    sizes = {k: jnp.max(jnp.abs(q)) for k, q in qs.items()}
    mean = jnp.exp(sum(jnp.log(x) for x in sizes.values()) / len(sizes))
    return {k: q * (mean / sizes[k]) for k, q in qs.items()}


def fitted(g: Array, v: Array, qs: Factors, rate: Array) -> dict[int, Array]:
    """Factors one step nearer to those for which Q·g is like Q⁻ᵀ·v, v of independent entries.

    Q ← Q − μ·triu(A·Aᵀ − B·Bᵀ)·Q / ‖A·Aᵀ + B·Bᵀ‖ along each axis, with A = Q·g, B = Q⁻ᵀ·v. No
    entry grows beyond what its products with others can be in range.
    """
    a, b = multiplied(g, qs), solved(v, qs)
    # Qᵀ·Q along all axes multiplies by their squares.
    most = float(jnp.finfo(g.dtype).max) ** (1 / (4 * max(len(qs), 1)))
    new = {}
    for k, q in qs.items():
        q = whole(q, *range(q.ndim))
        if q.ndim > 1:
            first, second = gram(a, a.ndim - k), gram(b, b.ndim - k)
            size = norm_below(first + second)
            change = jnp.matmul(jnp.triu(first - second) / _some(size), q, precision=EXACT)
        else:
            first, second = _squares(a, k), _squares(b, k)
            size = jnp.max(first + second, initial=0.0)
            change = (first - second) / _some(size) * q
        found = q - rate * change
        new[k] = jnp.where(jnp.max(jnp.abs(found), initial=0.0) < most, found, q)
    return new


def norm_below(a: Array) -> Array:
    """A lower bound of the largest singular value of a symmetric matrix, nearly always a close one.

    One step of power iteration from the longest column.
    """
    top = jnp.max(jnp.abs(a), initial=0.0)
    a = a / _some(top)
    x = jnp.take(a, jnp.argmax(jnp.sum(jnp.square(a), 0)), 1)
    x = jnp.matmul(a, x, precision=EXACT)
    y = jnp.matmul(a, x / _some(_length(x)), precision=EXACT)
    found: Array = top * _length(y)
    return found


_length = functools.partial(jnp.linalg.norm, axis=None)


def _some(size: Array) -> Array:
    return jnp.where(size > 0, size, 1)


def _squares(x: Array, k: int) -> Array:
    most = (float(jnp.finfo(x.dtype).max) / (4 * max(x.size, 1))) ** 0.5
    rows = jnp.moveaxis(jnp.clip(whole(x, *range(x.ndim)), -most, most), -k, 0)
    return jnp.sum(jnp.square(rows.reshape(len(rows), -1)), 1)
