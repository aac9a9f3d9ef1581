"""Some rows of a matrix: of a tall one, columns. They are numbered, in order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

Shape = tuple[int, ...]


def taken(x: Array, rows: Array) -> Array:
    """These rows alone."""
    return jnp.take(x, rows, _axis(x.shape))


def put_back(x: Array, rows: Array, shape: Shape) -> Array:
    """A matrix of this shape with these rows, and zeros."""
    at = (rows,) if _axis(shape) == 0 else (slice(None), rows)
    return jnp.zeros(shape, x.dtype).at[at].set(x)


def marked(shape: Shape, rows: Array) -> Array:
    """Whether a row is of these, along the axis of a matrix of this shape that numbers them."""
    axis = _axis(shape)
    found = jnp.zeros(shape[axis], bool).at[rows].set(True)
    return jnp.expand_dims(found, 1 - axis)


def largest(sizes: Array, count: int) -> Array:
    """The numbers of so many rows of the largest sizes, the first of equals."""
    return jnp.sort(jax.lax.top_k(sizes, count)[1])


def not_zero(x: Array, count: int) -> Array:
    """The numbers of all rows with an entry that is not zero, and of others if there are fewer."""
    some = jnp.any(x != 0, 1 - _axis(x.shape))
    return largest(some.astype(jnp.int32), count)


def _axis(shape: Shape) -> int:
    return 0 if shape[0] <= shape[1] else 1
