"""The pairs of L-BFGS, with the inverse of a table of their products, and the step they give.

`s` and `y` hold the m last steps and the m last changes of the gradient, each pair divided by
√(sᵀy), as a ring. Of R, the upper triangle of SᵀY, the inverse is held: a new pair gives it one
more column, and an old one that goes takes its row and column along. So it needs no order.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import stacked
from jopt.numerics.one_kernel import in_one, one_kernel

HIGHEST = jax.lax.Precision.HIGHEST


class Pairs(NamedTuple):
    """`s` and `y`, shape (m, n), and `inverse`, R⁻¹; `n` pairs, the newest in row `last`.

    `gamma` is sᵀy / yᵀy of that. The pairs lie in the first `n` rows; behind is what was left.
    """

    s: Array
    y: Array
    inverse: Array
    gamma: Array
    n: Array
    last: Array

    @classmethod
    def none(cls, m: int, like: Array) -> Pairs:
        """Room for `m` pairs of vectors like this one."""
        rows, table = jnp.zeros((m, like.size), like.dtype), jnp.zeros((m, m), like.dtype)
        none, last = jnp.zeros((), jnp.int32), jnp.asarray(m - 1, jnp.uint32)
        return cls(rows, rows, table, jnp.ones((), like.dtype), none, last)


def counted(n: Array, last: Array, m: int, keep: Array, forget: Array) -> tuple[Array, Array]:
    """`n` and `last` of m rows with one pair more, if `keep`; of none, to `forget`.

    What lies in the rows follows in `newton_step`.
    """
    following = jnp.where(last == m - 1, 0, last + 1)
    last = jnp.where(forget, m - 1, jnp.where(keep, following, last))
    return jnp.where(forget, 0, jnp.minimum(n + keep.astype(jnp.int32), m)), last


def newton_step(
    p: Pairs, ends: tuple[Array, Array], scale: Array, keep: Array, size: Array, few: bool = False
) -> tuple[Array, tuple[Array, Array, Array]]:
    """−H·g, with H the inverse Hessian of the pairs; and their arrays with the one just `counted`.

        α = −R⁻¹·Sᵀg
        d = −γ·(g + Y·α) + S·R⁻ᵀ·(α + γ·(Yᵀg + YᵀY·α))

    Without pairs −g / `size`, which is also what keeps products with g from overflowing: it is to
    be at least 1 and all entries of g. The new column of R⁻¹ is −R⁻¹·c with a 1 below, c being the
    column of R above its diagonal. The row of the pair that goes holds no part of another's, and
    its column is 0 above the diagonal.

    **Arguments:** `ends`, points with their gradients, shape (2, n): times `scale` the way from the
    first to the second is the newest pair, and the second is where g is; `keep`, whether that is
    new; `few`, whether n is small enough for kernels of one thread.

    Source: Byrd, Nocedal and Schnabel, 1994, theorem 2.2.
    """
    # All is done for two vectors at once, y and g, though of most products only that of g is
    # needed: XLA has products of matrices ready for a CPU, and compiles one with a vector.
    now = p.n, p.last, keep
    both, s, y, inverse = in_one(few, _entered)(p[:3], p.last, ends, scale, keep, size)
    products = in_one(few, _of_live)(p.n, _product(both, s.T))
    inverse = in_one(few, _with_column)(*now, inverse, _product(products, inverse.T))
    alpha = _product(products, inverse.T)
    moved = _product(alpha, y)
    # Yᵀ(g + Y·α) at once would cost evaluations: g + Y·α is small beside either.
    of_y = _product(in_one(few, _beside)(both, moved), y.T)
    weights = _product(in_one(few, _inner)(p.n, p.gamma, alpha, of_y), inverse)
    step = in_one(few, _step)(p.n, p.gamma, both, moved, _product(weights, s), size)
    return step, (s, y, inverse)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)


def _live(n: Array, like: Array) -> Array:
    return jnp.arange(like.shape[-1], dtype=jnp.uint32) < n.astype(jnp.uint32)


def _written(rows: Array, new: Array, along: int, at: Array, keep: Array) -> Array:
    shape, where = [*rows.shape], [jnp.zeros_like(at)] * 2
    shape[along], where[along] = 1, at
    old = jax.lax.dynamic_slice(rows, where, shape)
    return jax.lax.dynamic_update_slice(rows, jnp.where(keep, new.reshape(shape), old), where)


@one_kernel
def _entered(
    rows: tuple[Array, Array, Array],
    last: Array,
    ends: tuple[Array, Array],
    scale: Array,
    keep: Array,
    size: Array,
) -> tuple[Array, Array, Array, Array]:
    pair = (ends[1] - ends[0]) * scale
    new = *pair, jnp.zeros_like(rows[2][0])
    s, y, inverse = (_written(x, row, 0, last, keep) for x, row in zip(rows, new, strict=True))
    # Of a division by one number for all XLA makes a product, which is not as exact.
    g = ends[1][1]
    return stacked([pair[1], g / jnp.where(jnp.isnan(g), 1, size)]), s, y, inverse


@one_kernel
def _of_live(n: Array, products: Array) -> Array:
    return jnp.where(_live(n, products)[None], products, 0)


@one_kernel
def _with_column(n: Array, last: Array, keep: Array, inverse: Array, above: Array) -> Array:
    column = above[0]
    # One that overflowed would outlive its pair.
    column = jnp.where(_live(n, column) & jnp.isfinite(column), -column, 0)
    newest = keep & (jnp.arange(column.size, dtype=jnp.uint32) == last)
    return _written(inverse, jnp.where(newest, 1, column), 1, last, keep)


@one_kernel
def _beside(both: Array, moved: Array) -> Array:
    return stacked([both[1], moved[1]])


@one_kernel
def _inner(n: Array, gamma: Array, alpha: Array, of_y: Array) -> Array:
    inner = jnp.where(_live(n, alpha), gamma * (of_y[0] - of_y[1]) - alpha[1], 0)
    return jnp.broadcast_to(inner[None], alpha.shape)


@one_kernel
def _step(n: Array, gamma: Array, both: Array, moved: Array, along: Array, size: Array) -> Array:
    return (along[0] - gamma * (both[1] - moved[1])) * jnp.where(n > 0, size, 1)
