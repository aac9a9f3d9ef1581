"""Eigenvectors of means of G·Gᵀ: found once, then followed by a step of orthogonal iteration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.decompositions import eigh, orthogonal
from jopt.numerics.explicit import like, whole

EXACT = jax.lax.Precision.HIGHEST
"""What a basis is made with: where a product rounds to 10 bits, columns are no basis."""


def gram(g: Array, axis: int) -> Array:
    """What g has in common with itself along one axis: G·Gᵀ of the matrix with rows along it.

    Entries whose products would not be finite count as the largest whose are.
    """
    rows = jnp.moveaxis(_with_finite_squares(g), axis, 0)
    rows = rows.reshape(g.shape[axis], -1)
    return jnp.matmul(rows, rows.T, precision=EXACT)


def mean_square(g: Array, axis: int) -> Array:
    """The mean of g² for each index of one axis; entries count as in `gram`."""
    others = tuple(i for i in range(g.ndim) if i != axis % g.ndim)
    return jnp.mean(jnp.square(_with_finite_squares(g)), others)


def _with_finite_squares(g: Array) -> Array:
    most = (float(jnp.finfo(g.dtype).max) / (4 * max(g.size, 1))) ** 0.5
    return jnp.clip(whole(g, *range(g.ndim)), -most, most)


def in_basis(x: Array, axis: int, q: Array, *, back: bool = False) -> Array:
    """x with an axis in the basis of q's columns, qᵀ·x; with `back` q·x. It is whole thereafter."""
    x, q = whole(x, *range(x.ndim)), whole(q, 0, 1)
    if x.ndim == 2 and axis % 2 == 0:  # so that the product lies as x does
        return jnp.matmul(q if back else q.T, x, precision=EXACT)
    product = jnp.tensordot(x, q, axes=((axis,), (1 if back else 0,)), precision=EXACT)
    return jnp.moveaxis(product, -1, axis)


def eigenbasis(m: Array) -> Array:
    """The eigenvectors of a symmetric matrix as columns, of the largest eigenvalue first.

    Where eigenvalues are 0 but for rounding every basis would do, and which one a decomposition
    takes is rounding's choice. It is made here by the others and a fixed matrix, so that no two
    programs begin in different ones.
    """
    values, q = (jnp.flip(x, -1) for x in eigh(_of_size_one(m)))
    size = m.shape[-1]
    least = 4 * size * float(jnp.finfo(q.dtype).eps)
    known = values > least * jnp.max(values, initial=0.0)
    found = jnp.where(known, q, 0)
    # The fixed matrix is made where it is read, of numbers that are there with the rest: else it
    # would be held from before a loop over matrices to its end.
    held = jax.lax.optimization_barrier((known, found, jnp.arange(size, dtype=jnp.uint32)))
    inner = jnp.matmul(held[1].mT, _start(held[0], held[2], q.dtype), precision=EXACT)
    known, found, inner, numbers = jax.lax.optimization_barrier((*held[:2], inner, held[2]))
    seen = jnp.matmul(found, inner, precision=EXACT)
    unknown = _start(known, numbers, q.dtype) - seen
    basis: Array = orthogonal(jnp.where(known, found, unknown))
    return basis


def _start(known: Array, numbers: Array, dtype: jnp.dtype) -> Array:
    """I, and where a column is known more, in no direction that could be orthogonal to others."""
    i, j = numbers[:, None], numbers[None, :]
    eye = (i == j).astype(dtype)
    return jnp.where(known[:1], eye + _scattered(i, j, dtype) / 8, eye)


def _scattered(i: Array, j: Array, dtype: jnp.dtype) -> Array:
    """A matrix of entries in [-1, 1) without a pattern, the same everywhere."""
    bits = i * jnp.uint32(0x9E3779B1) ^ j * jnp.uint32(0x85EBCA77)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    spread: Array = (bits >> 8).astype(dtype) / (1 << 23) - 1
    return spread


def followed(m: Array, q: Array) -> tuple[Array, Array]:
    """A basis q that was m's, one step nearer to what m has become; and the order of its columns.

    The columns are sorted by what m makes of them, multiplied by m, and made orthogonal again.
    """
    product, q = _multiplied(m, q)
    order = jnp.argsort(-jnp.sum(q * product, -2), stable=True)
    return orthogonal(jnp.take(product, order, -1)), order


def followed_in_order(m: Array, q: Array) -> Array:
    """The same without sorting."""
    basis: Array = orthogonal(_multiplied(m, q)[0])
    return basis


def _multiplied(m: Array, q: Array) -> tuple[Array, Array]:
    q = whole(q, 0, 1)
    return jnp.matmul(_of_size_one(m), q, precision=EXACT), q


def _of_size_one(m: Array) -> Array:
    m = whole(m, 0, 1)
    size = jnp.max(jnp.abs(m), initial=0.0)
    return m / jnp.where(size > 0, size, 1)


def alike(x: Array, old: Array) -> Array:
    """x laid out as what it takes the place of, where types tell."""
    sharding = jax.typeof(old).sharding
    return x if jax.typeof(x).sharding == sharding else like(x, sharding)
