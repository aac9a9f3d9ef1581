"""A method of `minimize`: Newton's, its steps by conjugate gradients within a region of trust.

A turn is one step: the Hessian is seen through products alone, of the gradient made linear where
the run is; then the function is evaluated once, and the step is taken or the region made smaller.
The first turn goes nowhere, so that the function stands in what is compiled twice, not thrice.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.tree import Tree
from jopt.minimize.points import FEW
from jopt.minimize.problem import Objective, Packed, along, traced, untraced, zeros_of_aux
from jopt.minimize.result import PRECISION, REGION, RUNNING, Minimum
from jopt.minimize.turn import by_rules, is_flat, noise
from jopt.numerics import Truncated, either, in_one, one_kernel, truncated_newton
from jopt.numerics.loops import while_loop

ENOUGH, POOR, GOOD = 0.15, 0.25, 0.75
"""Of what the model promised: this a step must hold to be taken, here the region gets smaller,
and here larger. The first is SciPy's, the others are of algorithm 4.1."""
APART = 16
"""What goes with the length of a step is not so far apart for two, though their ways differ."""


class Point(NamedTuple):
    """Where the run is."""

    x: Array
    f: Array
    g: Array
    aux: Any


class Loop(NamedTuple):
    """The loop's state; `norm`, the gradient's at the start.

    `calm`: where a step last was taken that did not lower the value, the gradient's largest entry.
    `least`: by how much values have differed from what gradients say of a step, for its length, at
    the least since the value fell by √ε of it. `blurred`: whether the last that moved was rounding.
    """

    goes_on: Array
    here: Point
    radius: Array
    norm: Array
    calm: Array
    least: Array
    blurred: Array
    steps: Array
    evaluations: Array
    products: Array
    status: Array
    trace: Array | None


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def by_newton(
    objective: Objective, packed: Packed, trace: int, x0: Tree, args: Any, limits: Any
) -> Minimum:
    """Minimise it from `x0`; see `minimize`."""
    value = along(objective, packed, args)
    start = packed.join(x0)
    dtype = start.dtype
    few = 0 < packed.size <= FEW
    tolerances = [limits[f"tolerance_{of}"].astype(dtype) for of in ("value", "params", "grad")]
    bars = tolerances, limits["max_steps"]

    def look(x: Array) -> Point:
        (f, aux), g = jax.value_and_grad(value, has_aux=True)(x)
        return Point(x, f, g, aux)

    def turn(was: Loop) -> Loop:
        here, first = was.here, was.evaluations == 0
        _, product = jax.linearize(jax.grad(lambda x: value(x)[0]), here.x)
        way = truncated_newton(product, here.g, was.radius, was.norm, ~first, few)
        new = look(in_one(few, _reached)(here.x, way.step))
        bare = was._replace(here=here._replace(aux=None), trace=None)
        then: Loop = in_one(few, _taken)(bare, new._replace(aux=None), way, *bars)
        given = first | (then.steps > was.steps)
        aux = either(given, new.aux, here.aux)
        trace = traced(was.trace, given, then.steps, then.here.f)
        return then._replace(here=then.here._replace(aux=aux), trace=trace)

    aux = zeros_of_aux(objective, packed, args, start)
    infinite, count = jnp.asarray(jnp.inf, dtype), jnp.zeros((), jnp.int32)
    begin = Loop(
        goes_on=jnp.asarray(True),
        here=Point(start, infinite, jnp.zeros_like(start), aux),
        radius=infinite,
        norm=infinite,
        calm=infinite,
        least=infinite,
        blurred=jnp.asarray(False),
        steps=count,
        evaluations=count,
        products=count,
        status=count + RUNNING,
        trace=untraced(trace, dtype),
    )
    end = while_loop(lambda loop: loop.goes_on, turn, begin)
    state: Any = {"radius": end.radius}
    return Minimum(
        params=packed.part(end.here.x),
        value=end.here.f,
        aux=end.here.aux,
        grad_norm=_most(end.here.g),
        steps=end.steps,
        evaluations=end.evaluations,
        status=end.status,
        state=state,
        trace=end.trace,
        products=end.products,
    )


@one_kernel
def _reached(x: Array, step: Array) -> Array:
    return x + step


@one_kernel
def _taken(was: Loop, new: Point, way: Truncated, tolerances: list[Array], most: Array) -> Loop:
    """What follows from a step, or from the start."""
    here, first, dtype = was.here, was.evaluations == 0, new.x.dtype
    # Both reductions are wrong by the last places of the value: where it is all that there is
    # of them the step is as good as promised, and the gradient says whether it is one.
    blur, g_new, g_max = noise(here.f), _most(new.g), _most(here.g)
    finite = jnp.isfinite(new.f) & jnp.isfinite(g_new)
    kept = jnp.where(finite, (here.f - new.f + blur) / (way.decrease + blur), -jnp.inf)
    lower = new.f < here.f
    calmer = (new.f <= here.f + blur) & (g_new <= jnp.minimum(g_max, was.calm) / 2)
    moved = ~first & (kept > ENOUGH) & (lower | calmer)
    length = way.length
    small = jnp.where(length < way.radius, length, way.radius) / 4
    large = jnp.where((kept > GOOD) & way.on_edge, 2 * way.radius, way.radius)
    radius = jnp.where(moved & (kept >= POOR), large, small)

    # Where the gradients say that a step lowers the value as promised, and it does not, they
    # may be wrong: then the difference goes with the length of the step. What rounding makes
    # does not get less with it.
    lowers = -jnp.sum((here.g + new.g) / 2 * way.step)
    off = (jnp.abs(here.f - new.f - lowers) + blur) / length
    least = jnp.fmin(was.least, off)
    still = jnp.all(new.x == here.x)
    blurred = (lowers >= way.decrease / 2) & (off > APART * least)
    blurred = jnp.where(still, was.blurred, blurred)
    fell = moved & (here.f - new.f > jnp.sqrt(jnp.finfo(dtype).eps) * jnp.abs(here.f))

    unseen = way.decrease <= blur
    stop = ~first & ~moved & (unseen | still)
    at = either(moved | first, new, here)
    down = jnp.abs(at.g)
    scaled = down * jnp.maximum(1, jnp.abs(at.x))
    sizes = [_most(x) for x in (at.x, down, at.x - here.x, scaled)]
    seen = blurred | (unseen & ~way.on_edge) | is_flat(sizes[3], at.f)
    status = jnp.where(stop, jnp.where(seen, PRECISION, REGION), RUNNING)
    did = first, moved, jnp.asarray(True)
    status = by_rules(status, did, (here.f, at.f), sizes, tolerances)
    steps = was.steps + moved.astype(jnp.int32)
    return Loop(
        goes_on=(status == RUNNING) & (steps < most),
        here=at,
        radius=jnp.where(first, was.radius, radius),
        norm=way.beside,
        calm=jnp.where(moved & ~lower, g_new, was.calm),
        least=jnp.where(first | fell, jnp.inf, least),
        blurred=blurred,
        steps=steps,
        evaluations=was.evaluations + 1,
        products=was.products + way.products,
        status=status,
        trace=None,
    )


def _most(x: Array) -> Array:
    return jnp.max(jnp.abs(x), initial=0)
