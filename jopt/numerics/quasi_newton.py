"""The L-BFGS model of a function: its last steps, and the direction they give.

A history of m pairs is a ring of rows: row i of `s` and of `y` is a step and the change of the
gradient over it, and pair number n (from 0) lies in row n mod m.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.once import once_if
from jopt.numerics.scales import Scale
from jopt.numerics.vectors import Joint, Vector, row_dots, vector_dot


class QuasiNewton(NamedTuple):
    """What L-BFGS knows: the pairs and their inner products, the last direction and gradient.

    `s` and `y` have arrays of shape (m, ...); `sy` and `yy` hold sᵢ·yⱼ and yᵢ·yⱼ by rows, `s_g`
    and `y_g` the products of the rows with `prev_grad`.
    The last step was t·d. `n_pairs` counts the pairs stored, `n_iter` the directions made.
    """

    s: Vector
    y: Vector
    d: Vector
    prev_grad: Vector
    sy: Array
    yy: Array
    s_g: Array
    y_g: Array
    h_diag: Array
    t: Array
    n_pairs: Array
    n_iter: Array


def turned(
    m: QuasiNewton, g: Vector, min_curvature: Array, *, scale: Scale, first: Array, go: Array
) -> QuasiNewton:
    """The model after it has seen the gradient `g` at the end of the last step.

    It files the pair of that step if sᵀy > `min_curvature`, and its `d` is −H·g. All products are
    those of c·f for the c of `scale`, and so is d at the first step, −c·g.

    **Arguments:**

    - `m`: the model before; its `t` is the length of the last step, and stays.
    - `g`: the gradient.
    - `scale`: that of the function; where `go` is `False` it must be 1.
    - `first`: there was no last step, and no pairs.
    - `go`: `False` changes nothing.
    """
    joint, c = Joint(g), scale.by
    x, old_x, old_d = (joint.join(v) for v in (g, m.prev_grad, m.d))
    y = [a - b for a, b in zip(x, old_x, strict=True)]
    ys, yy = m.t * vector_dot(y, old_d), vector_dot(y, y)
    # Of `yy` nothing is asked but that it is known by now, so that one reading gives all sums.
    keep = go & ~first & (ys > min_curvature) & ~(yy < 0)
    row = m.n_pairs % m.sy.shape[0]
    rows_s, rows_y, filed = once_if(keep, lambda h: _filed(m, g, row, h), (m.s, m.y, keep & False))
    all_s, all_y = joint.join(rows_s, 1), joint.join(rows_y, 1)
    s_g, y_g = row_dots(all_s, x), row_dots(all_y, x)
    # The products with y are differences of those with g: one reading of the history does. Of
    # `sy` only products of a step with the same or a later y are ever used: a column is enough.
    column = (y_g - m.y_g).at[row].set(yy)
    new_sy = m.sy.at[:, row].set((s_g - m.s_g).at[row].set(ys))
    new_yy = m.yy.at[:, row].set(column).at[row].set(column)
    new_sy, new_yy = jnp.where(keep, new_sy, m.sy), jnp.where(keep, new_yy, m.yy)
    n_pairs = m.n_pairs + keep.astype(jnp.int32)
    held = Products(new_sy, new_yy, s_g, y_g, ys, yy)
    far = scale._replace(far=scale.far & (n_pairs > 0))
    sy, yy, s_g, y_g, ys, newest = _anew(held, row, all_s, all_y, x, far)
    h_diag = jnp.where(
        keep, ys / jnp.where(keep, newest, 1) * c, jnp.where(go & first, 1, m.h_diag)
    )
    a, b = inverse_hessian_weights(sy, yy, s_g, y_g, h_diag / c, n_pairs)
    b, of_g = b * c, jnp.where(go & first, c, h_diag)
    d = [
        jnp.where(go, pair_sum(rs, ry, a, b) - of_g.astype(v.dtype) * v, old)
        for rs, ry, v, old in zip(all_s, all_y, x, old_d, strict=True)
    ]
    # `go`, known only once the pair is filed, which reads the old gradient: no copy of it then.
    later = go | filed
    seen = [jnp.where(later, v, old) for v, old in zip(g, m.prev_grad, strict=True)]
    return QuasiNewton(
        s=rows_s,
        y=rows_y,
        d=joint.part(d),
        prev_grad=seen,
        sy=sy / c,
        yy=_over_square(yy, c),
        s_g=jnp.where(go, s_g / c, m.s_g),
        y_g=jnp.where(go, _over_square(y_g, c), m.y_g),
        h_diag=h_diag,
        t=m.t,
        n_pairs=n_pairs,
        n_iter=m.n_iter + go.astype(jnp.int32),
    )


def _filed(
    m: QuasiNewton, g: Vector, row: Array, held: tuple[Vector, Vector, Array]
) -> tuple[Vector, Vector, Array]:
    put = jax.lax.dynamic_update_index_in_dim
    # The barrier keeps the compiler from making the pair ahead of the loop, in memory of its own.
    t, d, g, old = jax.lax.optimization_barrier((m.t, m.d, g, m.prev_grad))
    s = [put(rows, t.astype(x.dtype) * x, row, 0) for rows, x in zip(held[0], d, strict=True)]
    y = [put(rows, a - b, row, 0) for rows, a, b in zip(held[1], g, old, strict=True)]
    return s, y, jnp.ones_like(held[2])


def _over_square(x: Array, c: Array) -> Array:
    # Where c² is 0 rows that are empty are not 0/0.
    return jnp.where(x == 0, x, x / c / c)


class Products(NamedTuple):
    """sᵢ·yⱼ, yᵢ·yⱼ, sᵢ·g, yᵢ·g, and s·y and y·y of the last step."""

    sy: Array
    yy: Array
    s_g: Array
    y_g: Array
    last_sy: Array
    last_yy: Array


def _anew(held: Products, row: Array, s: Vector, y: Vector, g: Vector, scale: Scale) -> Products:
    """These, or where they are far out those of c·y and c·g, from the rows."""
    m = held.s_g.shape[0]

    def column(i: Array, p: Products) -> Products:
        rows = [jax.lax.dynamic_index_in_dim(r, i, keepdims=False) for r in y]
        right = scale.of([jnp.where(i < m, r, v) for r, v in zip(rows, g, strict=True)])
        # c at once would lose small entries, and not at all overflow with large ones.
        some = scale.some()
        of_s, of_y = row_dots(s, right), row_dots(y, some.of(right)) * (scale.by / some.by)
        # The last column is that of g: the tables have no such one, and nothing is put there.
        sy, yy = p.sy.at[:, i].set(of_s), p.yy.at[:, i].set(of_y)
        last = (jnp.where(i == row, x[row], old) for x, old in ((of_s, p[4]), (of_y, p[5])))
        return Products(sy, yy, of_s, of_y, *last)

    anew: Products = once_if(scale.far, lambda p: jax.lax.fori_loop(0, m + 1, column, p), held)
    return anew


def pair_sum(s: Array, y: Array, a: Array, b: Array) -> Array:
    """∑ᵢ (aᵢ·sᵢ + bᵢ·yᵢ) over the rows of both histories."""
    over = ((0,), (0,)), ((), ())
    parts = [
        jax.lax.dot_general(w.astype(x.dtype), x, over, precision=jax.lax.Precision.HIGHEST)
        for w, x in ((a, s), (b, y))
    ]
    return parts[0] + parts[1]


def inverse_hessian_weights(
    sy: Array, yy: Array, s_g: Array, y_g: Array, gamma: Array, pairs: Array
) -> tuple[Array, Array]:
    """The weights a, b for which the quasi-Newton direction −H·g is −γ·g + ∑ᵢ aᵢ·sᵢ + ∑ᵢ bᵢ·yᵢ.

    With R the upper triangle of SᵀY (oldest pair first) and D its diagonal:

        α = −R⁻¹·Sᵀg
        b = −γ·α
        a = R⁻ᵀ·(D·α + γ·(Yᵀg + YᵀY·α))

    These are the two loops of the usual recursion, each written as a triangular solve: the
    history is read for the inner products and once more for the sum, not once for each pair.

    **Arguments:**

    - `sy`, `yy`: the products sᵢ·yⱼ and yᵢ·yⱼ by rows of the history, shape (m, m).
    - `s_g`, `y_g`: the products of the rows with the gradient, shape (m,).
    - `gamma`: γ, the scale of the first inverse Hessian.
    - `pairs`: how many pairs have been stored so far; of more than m the last m count.

    Source: Byrd, Nocedal and Schnabel, 1994, theorem 2.2.
    """
    m = s_g.shape[0]
    ages = jnp.arange(m, dtype=jnp.int32)
    oldest = jnp.where(pairs > m, pairs % m, 0)
    order = (oldest + ages) % m
    live = ages < pairs
    both = live[:, None] & live[None]
    r = jnp.where(both, jnp.triu(sy[order][:, order]), jnp.eye(m, dtype=sy.dtype))
    yy = jnp.where(both, yy[order][:, order], 0)
    s_g, y_g = (jnp.where(live, x[order], 0) for x in (s_g, y_g))
    alpha = -jax.scipy.linalg.solve_triangular(r, s_g)
    inner = jnp.diagonal(r) * alpha + gamma * (y_g + jnp.sum(yy * alpha[None], axis=1))
    a = jax.scipy.linalg.solve_triangular(r, inner, trans="T")
    home = (ages - oldest) % m
    return a[home], (-gamma * alpha)[home]
