"""Eigenvectors of means of G·Gᵀ: found once, then followed by a step of orthogonal iteration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import like, whole

EXACT = jax.lax.Precision.HIGHEST
"""What a basis is made with: where a product rounds to 10 bits, columns are no basis."""


def gram(g: Array, axis: int) -> Array:
    """What g has in common with itself along one axis: G·Gᵀ of the matrix with rows along it.

    Entries whose products would not be finite count as the largest whose are.
    """
    most = (float(jnp.finfo(g.dtype).max) / (4 * max(g.size, 1))) ** 0.5
    rows = jnp.moveaxis(jnp.clip(whole(g, *range(g.ndim)), -most, most), axis, 0)
    rows = rows.reshape(g.shape[axis], -1)
    return jnp.matmul(rows, rows.T, precision=EXACT)


def in_basis(x: Array, axis: int, q: Array, *, back: bool = False) -> Array:
    """x with an axis in the basis of q's columns, qᵀ·x; with `back` q·x. It is whole thereafter."""
    x, q = whole(x, *range(x.ndim)), whole(q, 0, 1)
    product = jnp.tensordot(x, q, axes=((axis,), (1 if back else 0,)), precision=EXACT)
    return jnp.moveaxis(product, -1, axis)


def eigenbasis(m: Array) -> Array:
    """The eigenvectors of a symmetric matrix as columns, of the largest eigenvalue first."""
    return jnp.flip(jnp.linalg.eigh(_of_size_one(m))[1], -1)


def followed(m: Array, q: Array) -> tuple[Array, Array]:
    """A basis q that was m's, one step nearer to what m has become; and the order of its columns.

    The columns are sorted by what m makes of them, multiplied by m, and made orthogonal again.
    """
    m, q = _of_size_one(m), whole(q, 0, 1)
    product = jnp.matmul(m, q, precision=EXACT)
    order = jnp.argsort(-jnp.sum(q * product, -2), stable=True)
    return jnp.linalg.qr(jnp.take(product, order, -1))[0], order


def _of_size_one(m: Array) -> Array:
    m = whole(m, 0, 1)
    size = jnp.max(jnp.abs(m), initial=0.0)
    return m / jnp.where(size > 0, size, 1)


def alike(x: Array, old: Array) -> Array:
    """x laid out as what it takes the place of, where types tell."""
    sharding = jax.typeof(old).sharding
    return x if jax.typeof(x).sharding == sharding else like(x, sharding)
