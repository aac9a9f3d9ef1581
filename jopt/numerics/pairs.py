"""The pairs of L-BFGS as one array, with tables of their products, and the step they give.

`rows` holds the m last steps s and the m last changes y of the gradient, each pair divided by
√(sᵀy), as a ring: pair number n (from 0) lies in row n mod m. Of R, the upper triangle of SᵀY,
the table holds the inverse, which a new pair gives one more column, and an old one that goes takes
its row and column along. So the tables need no order, and a place without a pair is one of
zeros in R⁻¹, whatever else is left there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

HIGHEST = jax.lax.Precision.HIGHEST


class Pairs(NamedTuple):
    """`rows`, shape (2, m, n); `inverse`, R⁻¹, and `squares`, YᵀY.

    `n` pairs were stored since there were none; from 2·m on it is counted from m again.
    """

    rows: Array
    inverse: Array
    squares: Array
    n: Array

    @classmethod
    def none(cls, m: int, like: Array) -> Pairs:
        """Room for `m` pairs of vectors like this one."""
        rows = jnp.zeros((2, m, like.size), like.dtype)
        table = jnp.zeros((m, m), like.dtype)
        return cls(rows, table, table, jnp.zeros((), jnp.int32))

    @property
    def places(self) -> Array:
        """0 to m − 1."""
        return jnp.arange(self.rows.shape[1], dtype=jnp.int32)

    @property
    def flat(self) -> Array:
        """The rows under each other, shape (2·m, n)."""
        return self.rows.reshape(math.prod(self.rows.shape[:2]), self.rows.shape[2])


def stored(p: Pairs, pair: Array, keep: Array) -> Pairs:
    """The ring with this pair, shape (2, n), if `keep`; the tables follow in `newton_step`."""
    m, zero = p.rows.shape[1], jnp.zeros_like(p.n)
    start = (zero, p.n % m, zero)
    old = jax.lax.dynamic_slice(p.rows, start, (2, 1, pair.shape[1]))
    rows = jax.lax.dynamic_update_slice(p.rows, jnp.where(keep, pair[:, None], old), start)
    n = jnp.where(p.n == 2 * m - 1, m, p.n + 1)
    return p._replace(rows=rows, n=jnp.where(keep, n, p.n))


def newton_step(
    p: Pairs, y: Array, g: Array, keep: Array, size: Array
) -> tuple[Array, Array, Array]:
    """−H·g, with H the inverse Hessian of the pairs, and the tables with the pair just `stored`.

        α = −R⁻¹·Sᵀg
        d = −γ·g + S·R⁻ᵀ·(α + γ·(Yᵀg + YᵀY·α)) − γ·Y·α

    γ is sᵀy / yᵀy of the newest pair. Without pairs −g / `size`, which is also what keeps products
    with g from overflowing: it is to be at least 1 and all entries of g. The new column of R⁻¹ is
    −R⁻¹·c with a 1 below, c being the column of R above its diagonal. The row of the pair that
    goes holds no part of another's, and its column is 0 above the diagonal.

    Source: Byrd, Nocedal and Schnabel, 1994, theorem 2.2.
    """
    m, g = p.inverse.shape[0], g / size
    products = jnp.matmul(p.flat, jnp.stack([y, g], axis=1), precision=HIGHEST).reshape(2, m, 2)
    solved = jnp.matmul(p.inverse, products[0], precision=HIGHEST)
    last = (p.n - 1) % m
    here = jnp.arange(m, dtype=jnp.int32) == last
    none, newest = p.n <= keep.astype(jnp.int32), keep & here
    solved = jnp.where(none | newest[:, None], 0, -solved)
    column = jnp.where(newest, 1, solved[:, 0])
    across, down = newest[None], newest[:, None]
    inverse = jnp.where(across, column[:, None], jnp.where(down | none, 0, p.inverse))
    of_y, of_g = products[1, :, 0], products[1, :, 1]
    squares = jnp.where(across, of_y[:, None], jnp.where(down, of_y[None], p.squares))
    alpha = solved[:, 1] - jnp.where(keep, products[0, last, 1], 0) * column
    gamma = 1 / jnp.where(p.n > 0, squares[last, last], 1)
    inner = alpha + gamma * (of_g + _twice(alpha, squares.T)[0])
    weights = jnp.concatenate([_twice(inner, inverse)[0], -gamma * alpha])
    step = _twice(weights, p.flat)[0] - gamma * g
    return step * jnp.where(p.n > 0, size, 1), inverse, squares


def _twice(v: Array, matrix: Array) -> Array:
    # v·M in two equal rows: XLA has products of matrices ready for a CPU, and compiles one of a
    # matrix and a vector, which takes it as long as two kernels.
    return jnp.matmul(jnp.broadcast_to(v, (2, v.size)), matrix, precision=HIGHEST)
