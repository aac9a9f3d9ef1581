"""The pairs of L-BFGS as one array, with the tables of their products, and the step they give.

`rows` holds the m last steps s and the m last changes y of the gradient, each pair divided by
√(sᵀy), as a ring: pair number n (from 0) lies in row n mod m. The tables and all that is computed
of them have the newest pair last.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

HIGHEST = jax.lax.Precision.HIGHEST


class Pairs(NamedTuple):
    """`rows`, shape (2, m, n); the `tables` sᵢ·yⱼ for i ≤ j and yᵢ·yⱼ; `n` pairs were stored."""

    rows: Array
    tables: Array
    n: Array

    @classmethod
    def none(cls, m: int, like: Array) -> Pairs:
        """Room for `m` pairs of vectors like this one."""
        rows = jnp.zeros((2, m, like.size), like.dtype)
        return cls(rows, jnp.zeros((2, m, m), like.dtype), jnp.zeros((), jnp.int32))

    @property
    def places(self) -> Array:
        """0 to m − 1."""
        return jnp.arange(self.rows.shape[1], dtype=jnp.int32)

    @property
    def live(self) -> Array:
        """Which places of the tables hold a pair."""
        return self.places >= self.places.size - self.n

    @property
    def gamma(self) -> Array:
        """sᵀy / yᵀy of the newest pair, the scale of the first inverse Hessian; 1 without."""
        return jnp.where(self.n > 0, 1 / jnp.where(self.n > 0, self.tables[1, -1, -1], 1), 1)


def stored(p: Pairs, pair: Array, keep: Array) -> Pairs:
    """The ring with this pair, shape (2, n), if `keep`; the tables follow in `tabled`."""
    zero = jnp.zeros_like(p.n)
    start = (zero, p.n % p.places.size, zero)
    old = jax.lax.dynamic_slice(p.rows, start, (2, 1, pair.shape[1]))
    rows = jax.lax.dynamic_update_slice(p.rows, jnp.where(keep, pair[:, None], old), start)
    return p._replace(rows=rows, n=p.n + keep.astype(jnp.int32))


def tabled(p: Pairs, y: Array, g: Array, keep: Array) -> tuple[Pairs, Array]:
    """With the products of the pair just `stored`, and those of all rows with `g`, shape (2, m)."""
    both = jnp.einsum("kmn,rn->rkm", p.rows, jnp.stack([y, g]), precision=HIGHEST)
    both = jnp.where(p.live[None, None], both[:, :, (p.places + p.n) % p.places.size], 0)
    # Up and to the left by one, and the new column; its mirror for what is symmetric.
    moved = jax.lax.pad(p.tables, jnp.zeros((), y.dtype), ((0, 0, 0), (-1, 1, 0), (-1, 1, 0)))
    newest = p.places == p.places[-1]
    across, down = newest[None, None], newest[None, :, None]
    new = jnp.where(across, both[0][:, :, None], moved)
    new = jnp.where(down & ~across, both[0, 1][None, None], new)
    return p._replace(tables=jnp.where(keep, new, p.tables)), both[1]


def newton_step(p: Pairs, g: Array, products: Array) -> Array:
    """−H·g, with H the inverse Hessian of the pairs; `products` are those of the rows with g.

    With R the upper triangle of SᵀY, whose diagonal is 1:

        α = −R⁻¹·Sᵀg
        d = −γ·g + S·R⁻ᵀ·(α + γ·(Yᵀg + YᵀY·α)) − γ·Y·α

    Source: Byrd, Nocedal and Schnabel, 1994, theorem 2.2.
    """
    both = p.live[:, None] & p.live[None] & (p.places[:, None] <= p.places[None])
    r = jnp.where(both, p.tables[0], jnp.eye(p.live.size, dtype=g.dtype))
    alpha = -jax.scipy.linalg.solve_triangular(r, products[0])
    seen = jnp.sum(p.tables[1] * jnp.where(p.live, alpha, 0)[None], axis=1)
    inner = alpha + p.gamma * jnp.where(p.live, products[1] + seen, 0)
    weights = jnp.stack([jax.scipy.linalg.solve_triangular(r, inner, trans="T"), -p.gamma * alpha])
    weights = weights[:, (p.places - p.n) % p.places.size]
    return jnp.einsum("km,kmn->n", weights, p.rows, precision=HIGHEST) - p.gamma * g
