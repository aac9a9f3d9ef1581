"""The step of L-BFGS between bounds: a generalised Cauchy point, and from there in the free part.

The model of the function is g·z + ½·zᵀBz with B = θ·I − Wᵀ·K·W, W being the rows Y and θ·S of the
pairs and K the inverse of a matrix of their products.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.pairs import HIGHEST, Pairs
from jopt.numerics.scales import power_below

NEWEST = 20
"""So many pairs are in the model where an entry meets a bound: its step costs the cube of it."""


def bounded_step(p: Pairs, free: Array, x: Array, g: Array, low: Array, high: Array) -> Array:
    """A step from `x` that stays between `low` and `high`, along which the model falls.

    `free` is the model's minimum as if there were no bounds. It is that between them, too, if it
    lies there, and `newton_step` has it without the rounding errors of a solve. Else `held_step`.
    """
    far = x + free
    within = jnp.all((low <= far) & (far <= high)) & (p.n > 0)
    step: Array = jax.lax.cond(within, lambda: free, lambda: held_step(p, x, g, low, high))
    return step


def held_step(p: Pairs, x: Array, g: Array, low: Array, high: Array) -> Array:
    """A step from `x` where some entries meet a bound.

    The Cauchy point is the first minimum of the model along the projected path x − t·g. Entries
    that are at a bound there stay; for the others it goes on to the model's minimum, which is
    projected to the bounds, or where that does not descend cut off at the first of them. Without
    pairs it is the projected step along −g.

    Source: Byrd, Lu, Nocedal and Zhu, 1995; the projection by Morales and Nocedal, 2011.
    """
    # Of a power of two times the model the minimum is the same, and squares of g are in range.
    size = jnp.maximum(1, power_below(jnp.max(jnp.abs(g), initial=0)))
    theta, w, k = compact(p)
    g, theta, k = g / size, theta / size, k / size
    z, held = cauchy(theta, w, k, x, g, low, high)
    free = ~held
    r = jnp.where(free, g + theta * z - _dot(_dot(k, _dot(w, z)), w), 0)
    w_free = jnp.where(free[None], w, 0)
    inner = jnp.eye(len(k), dtype=g.dtype) - _dot(k, _dot(w_free, w_free.T)) / theta
    v = jnp.linalg.solve(inner, _dot(k, _dot(w_free, r)))
    d = -(r + _dot(v, w_free) / theta) / theta
    d = jnp.where(free & jnp.isfinite(d), d, 0)
    projected = jnp.clip(x + z + d, low, high) - x
    cut = jnp.minimum(1, longest(x + z, d, low, high))
    return jnp.where(_dot(projected, g) < 0, projected, z + cut * d)


def longest(x: Array, d: Array, low: Array, high: Array) -> Array:
    """The largest t for which x + t·d is between the bounds, infinity if there is none."""
    room = jnp.where(d > 0, high - x, jnp.where(d < 0, low - x, jnp.inf))
    return jnp.min(jnp.where(d == 0, jnp.inf, room / jnp.where(d == 0, 1, d)))


def compact(p: Pairs) -> tuple[Array, Array, Array]:
    """θ, W of shape (2m, n), and K of shape (2m, 2m), of the newest m pairs."""
    most = p.s.shape[0]
    m = min(NEWEST, most)
    back = jnp.arange(m, dtype=jnp.int32)
    live = back < p.n
    last = p.last.astype(jnp.int32)
    at = jnp.where(back > last, last + most - back, last - back)
    s, y = (jnp.where(live[:, None], rows[at], 0) for rows in (p.s, p.y))
    theta = jnp.where(p.n > 0, jnp.sum(y[0] ** 2), 1)
    w = jnp.concatenate([y, theta * s])
    # Pairs have s·y = 1. Where there is none the matrix has such a diagonal as keeps it regular.
    lower = jnp.where(back[:, None] < back[None], _dot(s, y.T), 0)
    eye = jnp.eye(m, dtype=w.dtype)
    squares = theta * _dot(s, s.T) + jnp.where(live[:, None], 0, eye)
    return theta, w, jnp.linalg.inv(jnp.block([[-eye, lower.T], [lower, squares]]))


def cauchy(
    theta: Array, w: Array, k: Array, x: Array, g: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """From `x` to the first minimum of the model along the path, and which entries are held.

    The model is quadratic between the lengths at which an entry meets its bound. All those
    pieces are looked at together: what moves in each is a sum from behind over the entries in
    order, and how far they have come one from the front.
    """
    room = jnp.where(g < 0, high - x, x - low)
    ends = jnp.where(g == 0, jnp.inf, room / jnp.where(g == 0, 1, jnp.abs(g)))
    order = jnp.argsort(ends)
    stop = ends[order]
    start = jnp.concatenate([jnp.zeros(1, x.dtype), stop[:-1]])
    begin = jnp.where(jnp.isinf(start), 0, start)
    width = jnp.where(jnp.isinf(stop), 0, stop - begin)
    square = jnp.cumsum(g[order][::-1] ** 2)[::-1]
    along = -jnp.cumsum((g[None] * w)[:, order[::-1]], axis=1)[:, ::-1]
    gone = jnp.cumsum(along * width[None], axis=1) - along * width[None]
    of_k = _dot(k, along)
    slope = square * (theta * begin - 1) - jnp.sum(of_k * gone, axis=0)
    curve = theta * square - jnp.sum(of_k * along, axis=0)
    inside = begin + jnp.maximum(-slope, 0) / jnp.where(curve > 0, curve, 1)
    inside = jnp.where((curve > 0) | (slope >= 0), inside, jnp.inf)
    here = (inside < stop) & ~jnp.isinf(start) & (square > 0)
    last = jnp.max(jnp.where(jnp.isinf(stop), 0, stop))
    t = jnp.where(jnp.any(here), inside[jnp.argmax(here)], last)
    meets = t >= ends
    bound = jnp.where(g < 0, high, low) - x
    z = jnp.where(meets, bound, -t * g)
    return z, meets | (low >= high)


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)
