"""Newton's step by conjugate gradients, cut off where the quadratic model is trusted no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import stacked
from jopt.numerics.loops import while_loop
from jopt.numerics.one_kernel import in_one, one_kernel
from jopt.numerics.scales import power_below

FIRST = 10.0
"""The first radius, in lengths of the step to the model's minimum along −g."""
LOOSEST = 0.5
"""Of the gradient's norm so much may be left of the model's at the end of a step."""
LEAST_PRODUCTS = 20
"""So many products are allowed in few dimensions, too, where rounding takes more than n."""


class Truncated(NamedTuple):
    """A step; by how much the model says that it lowers the value; whether it ends on the edge.

    The radius, how many products with the Hessian it took; the step's norm, and what
    that of the gradient was measured by.
    """

    step: Array
    decrease: Array
    on_edge: Array
    radius: Array
    products: Array
    length: Array
    beside: Array


class _Way(NamedTuple):
    goes_on: Array
    r: Array
    d: Array
    square: Array
    taken: Truncated


def truncated_newton(
    product: Callable[[Array], Array],
    g: Array,
    radius: Array,
    beside: Array,
    asked: Array,
    few: bool = False,
) -> Truncated:
    """A step z with ‖z‖ ≤ Δ that lowers m(z) = gᵀz + ½·zᵀHz, by conjugate gradients.

        α ← rᵀr/dᵀHd;  z ← z + α·d;  r ← r + α·Hd;  d ← −r + (rᵀr)/(rᵀr before)·d

    from z = 0, r = g, d = −g, until ‖r‖ < η·‖g‖; at a direction of no positive curvature, or where
    z would leave the region, along d to its edge, forwards or, if that is lower, backwards.

    **Arguments:** `product`: from d to H·d. `radius`: Δ; where it is infinite that is made of the
    first product: 10 times the length of the minimum along −g, or 1 where there is none.
    `beside`: η² is ‖g‖ / beside, with η between √ε and ½; where it is infinite, ‖g‖ it is itself.
    `asked`: where false the step is 0, and nothing is made of g. `few`: whether g is short
    enough for kernels of one thread.

    All is done in units of the largest entry of g, by a power of two: no square overflows.

    Source: Steihaug, 1983; Nocedal and Wright, 2006, algorithm 7.2. m is summed up on the way.
    """
    begin, scale = in_one(few, _begun)(g, radius, beside, asked)

    def turn(was: _Way) -> _Way:
        found: _Way = in_one(few, _turned)(was, product(was.d), scale)
        return found

    end = while_loop(lambda way: way.goes_on, turn, begin).taken
    taken: Truncated = in_one(few, _in_units_of_g)(end, scale[0])
    return taken


@one_kernel
def _in_units_of_g(taken: Truncated, unit: Array) -> Truncated:
    return taken._replace(
        step=taken.step * unit,
        decrease=taken.decrease * unit * unit,
        length=taken.length * unit,
    )


@one_kernel
def _begun(
    g: Array, radius: Array, beside: Array, asked: Array
) -> tuple[_Way, tuple[Array, Array]]:
    """Before the first product; the unit, and the norm of what is small enough a rest."""
    dtype = g.dtype
    unit = power_below(jnp.max(jnp.abs(g), initial=0))
    first = g / unit
    start = jnp.sum(first * first)
    norm = jnp.sqrt(start)
    beside = jnp.where(asked & jnp.isinf(beside), unit * norm, beside)
    accuracy = jnp.sqrt(unit * norm / jnp.where(beside > 0, beside, 1))
    enough = jnp.clip(accuracy, jnp.sqrt(jnp.finfo(dtype).eps), LOOSEST) * norm
    nowhere = jnp.zeros_like(g)
    zero, no_product = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    none = Truncated(nowhere, zero, jnp.asarray(False), radius, no_product, zero, beside)
    return _Way(asked & (start > 0), first, -first, start, none), (unit, enough)


@one_kernel
def _turned(was: _Way, along: Array, scale: tuple[Array, Array]) -> _Way:
    """After a product with d."""
    (r, d, square, taken), (unit, enough) = was[1:], scale
    z = taken.step
    curvature, zd, dd, zz = (jnp.sum(a * b) for a, b in ((d, along), (z, d), (d, d), (z, z)))
    up = curvature > 0
    length = square / jnp.where(up, curvature, 1)
    found = jnp.where(up, FIRST * length * jnp.sqrt(square), 1 / unit)
    limit = jnp.where(jnp.isinf(taken.radius), found, taken.radius / unit)
    further = z + length * d
    beyond = ~(up & (jnp.sqrt(jnp.sum(further * further)) < limit))
    # The ends of the line within the region, without a difference of like numbers, in order.
    left = (limit - jnp.sqrt(zz)) * (limit + jnp.sqrt(zz))
    q = zd + jnp.copysign(jnp.sqrt(zd * zd + dd * left), zd)
    a, b = -q / dd, left / q
    ends = jnp.where((a <= b) | jnp.isnan(b), stacked([a, b]), stacked([b, a]))
    gains = ends * square - ends * ends * curvature / 2
    backwards = ~up & (gains[0] > gains[1])
    t = jnp.where(beyond, jnp.where(backwards, ends[0], ends[1]), length)
    gain = jnp.where(beyond, jnp.where(backwards, gains[0], gains[1]), length * square / 2)
    z, r = z + t * d, r + t * along
    rest = jnp.sum(r * r)
    taken = Truncated(
        step=z,
        decrease=taken.decrease + gain,
        on_edge=beyond,
        radius=limit * unit,
        products=taken.products + 1,
        length=jnp.sqrt(jnp.sum(z * z)),
        beside=taken.beside,
    )
    allowed = max(LEAST_PRODUCTS, 2 * d.size)
    goes_on = ~beyond & ~(jnp.sqrt(rest) < enough) & (taken.products < allowed)
    return _Way(goes_on, r, rest / square * d - r, rest, taken)
