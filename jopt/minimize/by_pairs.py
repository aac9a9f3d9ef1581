"""The method of `minimize`: L-BFGS as one loop, each turn of which evaluates the function once.

A turn is one trial of a line search. Where that ends the search, the same turn files the pair,
looks for a reason to stop and begins the next search. So the function, the search and the
direction stand once in what is compiled, the first evaluation included.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.core.tree import Tree
from jopt.minimize.problem import Objective, Packed, along, traced, untraced
from jopt.minimize.result import RUNNING, Minimum
from jopt.minimize.turn import MAX_RESTARTS, Filed, Run, Turn, decided, filed, tried
from jopt.numerics import (
    Pairs,
    Search,
    Step,
    bounded_step,
    either,
    longest,
    newton_step,
    once_if,
    one_kernel,
)
from jopt.numerics.explicit import stacked, zeros_of
from jopt.numerics.loops import while_loop

HISTORY = 100


class Loop(NamedTuple):
    """The loop's state.

    `here` is the point and the gradient there, `low` the same at the lowest point of the search
    along `d`; `slope` and `t_max` are of that search, too; `auxes` belong to both points.
    """

    goes_on: Array
    here: Array
    low: Array
    d: Array
    slope: Array
    t_max: Array | None
    search: Search
    run: Run
    pairs: Pairs
    auxes: tuple[Any, Any]
    trace: Array | None


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def by_pairs(
    objective: Objective,
    packed: Packed,
    trace: int,
    x0: Tree,
    args: Any,
    limits: Any,
    bounds: tuple[Tree, Tree] | None,
) -> Minimum:
    """Minimise it from `x0`; see `minimize`."""
    box = None if bounds is None else tuple(packed.join(side) for side in bounds)
    boxed = box is not None and jnp.all(jnp.isfinite(stacked(box)))

    def inside(x: Array) -> Array:
        return x if box is None else jnp.clip(x, *box)

    def downhill(x: Array, g: Array) -> Array:
        return -g if box is None else jnp.clip(x - g, *box) - x

    start = inside(packed.join(x0))
    dtype = start.dtype
    tolerances = [limits[f"tolerance_{of}"].astype(dtype) for of in ("value", "params", "grad")]

    def look(x: Array) -> tuple[Array, Any, Array]:
        (f, aux), g = jax.value_and_grad(along(objective, packed, args), has_aux=True)(x)
        if box is not None:
            # What is fixed is no variable: with a gradient it would be in the pairs, and every
            # minimum of the model out of bounds.
            g = jnp.where(box[0] < box[1], g, 0)
        return f, aux, stacked([x, g])

    def turn(was: Loop) -> Loop:
        run, pairs = was.run, was.pairs
        first, no = run.evaluations == 0, was.goes_on
        f_new, aux, new = look(inside(was.here[0] + was.search.t * was.d))
        t_max = jnp.inf if was.t_max is None else was.t_max
        slope_new = jnp.sum(new[1] * was.d)
        like: Any = Step(was.search, no, no)
        trial = one_kernel(
            tried, was.goes_on, like, was.search, run, was.slope, t_max, f_new, slope_new
        )
        low, aux = either(trial.lower, (new, aux), (was.low, was.auxes[1]))

        change = low - was.here
        down = downhill(*low)
        scaled = down * jnp.maximum(1, jnp.abs(low[0]))
        rows = stacked([low[0], down, change[0], scaled, change[1]])
        sizes = jnp.max(jnp.abs(rows), axis=1) if start.size else jnp.zeros(5, dtype)
        run, then = one_kernel(
            decided,
            was.goes_on,
            (run, Turn(no, no, no, no, f_new, no, f_new)),
            run,
            trial,
            was.search.t,
            was.slope,
            f_new,
            sizes,
            pairs.n,
            stacked(tolerances),
            limits["max_steps"],
        )
        # Of no square there is an overflow. Of the gradient it is the sum without bounds.
        unit = None if box is None else jnp.maximum(1, run.g)
        length = jnp.abs(down) if unit is None else (down / unit) ** 2
        curve = (change[1] * then.per_y) ** 2
        sums = jnp.sum(stacked([change[0] * change[1], curve, length]), axis=1)
        keep, scale, gamma, *counts, size = one_kernel(
            functools.partial(filed, rows=HISTORY),
            was.goes_on,
            Filed(no, f_new, f_new, pairs.n, pairs.last, f_new),
            then,
            *(pairs.gamma, pairs.n, pairs.last, sizes, sums, unit),
        )
        pairs = pairs._replace(gamma=gamma, n=counts[0], last=counts[1])

        def onward(state: tuple[Any, ...]) -> tuple[Any, ...]:
            known = pairs._replace(s=state[2], y=state[3], inverse=state[4])
            most = size if box is None else jnp.maximum(1, jnp.max(jnp.abs(low[1]), initial=0))
            d, arrays = newton_step(known, (low - state[0]) * scale, low[1], keep, most)
            reach = None
            if box is not None:
                known = pairs._replace(s=arrays[0], y=arrays[1])
                d = bounded_step(known, d, *low, *box) / jnp.where(first & ~boxed, size, 1)
                reach = jnp.maximum(longest(low[0], d, *box), 1)
            return low, d, *arrays, jnp.sum(d * low[1]), reach

        here, d, *arrays, slope, reach = once_if(
            then.over,
            onward,
            (was.here, was.d, pairs.s, pairs.y, pairs.inverse, was.slope, was.t_max),
        )
        return Loop(
            goes_on=then.goes_on,
            here=here,
            low=low,
            d=d,
            slope=slope,
            t_max=reach,
            search=trial.search._replace(t=then.t, stuck=then.stuck),
            run=run,
            pairs=Pairs(arrays[0], arrays[1], arrays[2], gamma, counts[0], counts[1]),
            auxes=(either(then.over, aux, was.auxes[0]), aux),
            trace=traced(was.trace, then.moved | first, run.steps, run.f),
        )

    shapes = jax.eval_shape(look, start)[1]
    aux = jax.tree.map(zeros_of, shapes)
    at = stacked([start, jnp.zeros_like(start)])
    zero, infinite = (jnp.asarray(x, dtype) for x in (0, jnp.inf))
    # An array that is not of one number throughout is a constant, and costs no kernel.
    nowhere: Any = np.asarray([0, np.inf, 0], dtype)
    count = jnp.zeros((), jnp.int32)
    begin = Loop(
        goes_on=jnp.asarray(True),
        here=at,
        low=at,
        d=start,  # the first trial goes nowhere
        slope=zero,
        t_max=None if box is None else infinite,
        search=Search(zero, nowhere, nowhere, jnp.asarray(False)),
        run=Run(
            f=infinite,
            g=infinite,
            best_f=infinite,
            best_g=infinite,
            mark=infinite,
            steps=count,
            evaluations=count,
            idle=count,
            restarts=count + MAX_RESTARTS,
            status=count + RUNNING,
            trials=count,
        ),
        pairs=Pairs.none(HISTORY, start),
        auxes=(aux, aux),
        trace=untraced(trace, dtype),
    )
    end = while_loop(lambda loop: loop.goes_on, turn, begin)
    n, pairs = end.run, end.pairs
    tables: Any = {"s": pairs.s, "y": pairs.y, "inverse": pairs.inverse}
    return Minimum(
        params=packed.part(end.here[0]),
        value=n.f,
        aux=end.auxes[0],
        grad_norm=n.g,
        steps=n.steps,
        evaluations=n.evaluations,
        status=n.status,
        state=tables,
        trace=end.trace,
    )
