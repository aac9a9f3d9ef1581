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
    p: Pairs, pair: Array, g: Array, keep: Array, size: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """−H·g, with H the inverse Hessian of the pairs; and their arrays with the one just `counted`.

        α = −R⁻¹·Sᵀg
        d = −γ·(g + Y·α) + S·R⁻ᵀ·(α + γ·(Yᵀg + YᵀY·α))

    Without pairs −g / `size`, which is also what keeps products with g from overflowing: it is to
    be at least 1 and all entries of g. The new column of R⁻¹ is −R⁻¹·c with a 1 below, c being the
    column of R above its diagonal. The row of the pair that goes holds no part of another's, and
    its column is 0 above the diagonal.

    **Arguments:** `pair`, shape (2, n), s and y of the newest; `keep`, whether it is new.

    Source: Byrd, Nocedal and Schnabel, 1994, theorem 2.2.
    """
    m, put = p.s.shape[0], jax.lax.dynamic_update_slice
    zero, here = jnp.zeros_like(p.last), jnp.arange(m, dtype=jnp.uint32)
    live, newest, g = here < p.n.astype(jnp.uint32), keep & (here == p.last), g / size

    def written(rows: Array, new: Array, along: int) -> Array:
        shape, at = [*rows.shape], [zero, zero]
        shape[along], at[along] = 1, p.last
        old = jax.lax.dynamic_slice(rows, at, shape)
        return put(rows, jnp.where(keep, new.reshape(shape), old), at)

    s, y = written(p.s, pair[0], 0), written(p.y, pair[1], 0)
    # All is done for two vectors at once, y and g, though of most products only that of g is
    # needed: XLA has products of matrices ready for a CPU, and compiles one with a vector.
    products = jnp.matmul(stacked([pair[1], g]), s.T, precision=HIGHEST)
    products = jnp.where(live[None], products, 0)
    above = jnp.matmul(products, p.inverse.T, precision=HIGHEST)[0]
    # A column that overflowed would outlive its pair.
    above = jnp.where(live & jnp.isfinite(above), -above, 0)
    inverse = written(p.inverse, jnp.zeros_like(above), 0)
    inverse = written(inverse, jnp.where(newest, 1, above), 1)
    alpha = jnp.matmul(products, inverse.T, precision=HIGHEST)
    moved = jnp.matmul(alpha, y, precision=HIGHEST)[1]
    # Yᵀ(g + Y·α) at once would cost evaluations: g + Y·α is small beside either.
    of_y = jnp.matmul(stacked([g, moved]), y.T, precision=HIGHEST)
    inner = jnp.where(live, p.gamma * (of_y[0] - of_y[1]) - alpha[1], 0)
    weights = jnp.matmul(jnp.broadcast_to(inner, (2, m)), inverse, precision=HIGHEST)
    step = jnp.matmul(weights, s, precision=HIGHEST)[0] - p.gamma * (g - moved)
    return step * jnp.where(p.n > 0, size, 1), (s, y, inverse)
