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
from jopt.minimize.points import FEW, HISTORY, Box, inside, reached, settled, settled_of_many
from jopt.minimize.problem import Objective, Packed, along, traced, untraced, zeros_of_aux
from jopt.minimize.result import RUNNING, Minimum
from jopt.minimize.turn import MAX_RESTARTS, Run
from jopt.numerics import (
    Pairs,
    Search,
    bounded_step,
    either,
    in_one,
    longest,
    newton_step,
    once_if,
    one_kernel,
)
from jopt.numerics.explicit import stacked
from jopt.numerics.loops import while_loop


class Loop(NamedTuple):
    """The loop's state.

    `here` is the point and the gradient there, `low` the same at the lowest point of the search
    along `d`; `t_max` is of that search, too; `auxes` belong to both points.
    """

    goes_on: Array
    here: Array
    low: Array
    d: Array
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
    box: Box = None if bounds is None else (packed.join(bounds[0]), packed.join(bounds[1]))
    boxed = box is not None and jnp.all(jnp.isfinite(stacked(box)))
    few = 0 < packed.size <= FEW

    @one_kernel
    def begun(x0: Tree, box: Box) -> tuple[Array, Array, Pairs]:
        start = inside(packed.join(x0), box)
        return stacked([start, jnp.zeros_like(start)]), start, Pairs.none(HISTORY, start)

    @one_kernel
    def ended(here: Array) -> Tree:
        return packed.part(here[0])

    at, start, pairs = in_one(few, begun)(x0, box)
    dtype = start.dtype
    tolerances = [limits[f"tolerance_{of}"].astype(dtype) for of in ("value", "params", "grad")]
    bars = tolerances, limits["max_steps"]

    def look(x: Array) -> tuple[Array, Any, Array]:
        (f, aux), g = jax.value_and_grad(along(objective, packed, args), has_aux=True)(x)
        if box is not None:
            # What is fixed is no variable: with a gradient it would be in the pairs, and every
            # minimum of the model out of bounds.
            g = jnp.where(box[0] < box[1], g, 0)
        return f, aux, g

    def turn(was: Loop) -> Loop:
        x = in_one(few, reached)(was.here, was.d, was.search.t, box)
        f, aux, g = look(x)
        settle = settled if few else settled_of_many
        low, run, search, then, pair, lower = settle(
            (was.here, was.low),
            was.d,
            (x, f, g),
            was.search,
            was.run,
            was.t_max,
            (was.pairs.gamma, was.pairs.n, was.pairs.last),
            bars,
            box,
        )
        aux = either(lower, aux, was.auxes[1])
        pairs = was.pairs._replace(gamma=pair.gamma, n=pair.n, last=pair.last)

        def onward(state: tuple[Any, ...]) -> tuple[Any, ...]:
            known = pairs._replace(s=state[2], y=state[3], inverse=state[4])
            most = pair.size if box is None else jnp.maximum(1, jnp.max(jnp.abs(low[1]), initial=0))
            d, arrays = newton_step(known, (state[0], low), pair.scale, pair.keep, most, few)
            reach = None
            if box is not None:
                known = pairs._replace(s=arrays[0], y=arrays[1])
                first = was.run.evaluations == 0
                d = bounded_step(known, d, low[0], low[1], *box) / jnp.where(
                    first & ~boxed, pair.size, 1
                )
                reach = jnp.maximum(longest(low[0], d, *box), 1)
            return low, d, *arrays, reach

        here, d, *arrays, reach = once_if(
            then.over,
            onward,
            (was.here, was.d, pairs.s, pairs.y, pairs.inverse, was.t_max),
        )
        return Loop(
            goes_on=then.goes_on,
            here=here,
            low=low,
            d=d,
            t_max=reach,
            search=search,
            run=run,
            pairs=pairs._replace(s=arrays[0], y=arrays[1], inverse=arrays[2]),
            auxes=(either(then.over, aux, was.auxes[0]), aux),
            trace=traced(was.trace, then.moved | (was.run.evaluations == 0), run.steps, run.f),
        )

    aux = zeros_of_aux(objective, packed, args, start)
    zero, infinite = (jnp.asarray(x, dtype) for x in (0, jnp.inf))
    # An array that is not of one number throughout is a constant, and costs no kernel.
    nowhere: Any = np.asarray([0, np.inf, 0], dtype)
    count = jnp.zeros((), jnp.int32)
    begin = Loop(
        goes_on=jnp.asarray(True),
        here=at,
        low=at,
        d=start,  # the first trial goes nowhere
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
        pairs=pairs,
        auxes=(aux, aux),
        trace=untraced(trace, dtype),
    )
    end = while_loop(lambda loop: loop.goes_on, turn, begin)
    n, pairs = end.run, end.pairs
    tables: Any = {"s": pairs.s, "y": pairs.y, "inverse": pairs.inverse}
    return Minimum(
        params=in_one(few, ended)(end.here),
        value=n.f,
        aux=end.auxes[0],
        grad_norm=n.g,
        steps=n.steps,
        evaluations=n.evaluations,
        status=n.status,
        state=tables,
        trace=end.trace,
    )
