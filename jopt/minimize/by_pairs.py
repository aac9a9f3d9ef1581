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
from jopt.minimize.problem import Objective, Packed, traced, untraced
from jopt.minimize.result import (
    GRADIENT,
    NOT_FINITE,
    PARAMS,
    PRECISION,
    RUNNING,
    SEARCH,
    VALUE,
    Minimum,
)
from jopt.numerics import (
    Pairs,
    Search,
    advance,
    bounded_step,
    either,
    longest,
    newton_step,
    once_if,
    stored,
)

HISTORY = 100
MAX_TRIALS, FEW_TRIALS = 25, 4
PATIENCE = 5
"""After so many steps that lower neither the value nor the gradient the pairs are forgotten."""
MAX_RESTARTS = 10
"""So often the pairs may be forgotten, each time only if the value has fallen by √ε of it since.

Along the gradient alone a search could go on for ever.
"""
NOISE = 8
"""By how many units in the last place the value of a function is taken to be wrong."""


class Run(NamedTuple):
    """The loop's state. Numbers lie in few arrays, for which fewer kernels are compiled.

    `here` is the point and the gradient there, `low` the same at the lowest point of the search
    along `d`; `numbers` and `counts` are the fields of those classes; `auxes` belong to both.
    """

    here: Array
    low: Array
    d: Array
    auxes: tuple[Any, Any]
    rows: Array  # and the next two: of the pairs
    inverse: Array
    squares: Array
    ends: Array  # of the search
    numbers: Array
    counts: Array
    trace: Array | None


class Numbers(NamedTuple):
    """Value and slope at the start of the search, its trial and limit; the last progress.

    And the value when the pairs were forgotten last, and whether the search is `stuck`. No more
    than eight: XLA makes one kernel of what stacks so many.
    """

    f: Array
    slope: Array
    t: Array
    t_max: Array
    best_f: Array
    best_g: Array
    mark: Array
    stuck: Array


class Counts(NamedTuple):
    """Of the whole run, but for `trials` of the search; `restarts` are left, `pairs` are stored."""

    steps: Array
    evaluations: Array
    idle: Array
    restarts: Array
    status: Array
    trials: Array
    pairs: Array


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
    boxed = box is not None and jnp.all(jnp.isfinite(jnp.stack(box)))

    def inside(x: Array) -> Array:
        return x if box is None else jnp.clip(x, *box)

    def downhill(x: Array, g: Array) -> Array:
        return -g if box is None else jnp.clip(x - g, *box) - x

    start = inside(packed.join(x0))
    dtype, eps = start.dtype, jnp.finfo(start.dtype).eps
    limits = {k: v if k == "max_steps" else v.astype(dtype) for k, v in limits.items()}

    def look(x: Array) -> tuple[Array, Any, Array]:
        def value(x: Array) -> tuple[Array, Any]:
            f, aux = objective(packed.part(x), args)
            return f.astype(dtype), aux

        (f, aux), g = jax.value_and_grad(value, has_aux=True)(x)
        return f, aux, jnp.stack([x, g])

    def turn(run: Run) -> Run:
        was, n = Numbers(*run.numbers), Counts(*run.counts)
        first = n.evaluations == 0
        f_new, aux, new = look(inside(run.here[0] + was.t * run.d))
        noise = NOISE * eps * jnp.abs(was.f)
        found = advance(
            Search(was.t, run.ends[0], run.ends[1], was.stuck > 0, n.trials),
            f_new,
            jnp.sum(new[1] * run.d),
            f=was.f,
            slope=was.slope,
            noise=noise,
            t_max=was.t_max,
            max_trials=MAX_TRIALS,
            few_trials=FEW_TRIALS,
        )
        # The slope is 0 at first; where rounding errors make it rise the search is over at once.
        rises = ~(was.slope < 0)
        search, over = found.search, found.done | found.spent | rises
        low, aux = either(found.lower | first, (new, aux), (run.low, run.auxes[1]))
        f = jnp.where(first, f_new, search.low[1])
        moved = over & ~first & (search.low[0] > 0)

        change = low - run.here
        down = downhill(*low)
        scaled = down * jnp.maximum(1, jnp.abs(low[0]))
        sizes = jnp.abs(jnp.stack([low[0], down, change[0], scaled]))
        x_max, g_max, step_max, scaled_max = jnp.max(sizes, axis=1, initial=0)
        # Of the gradient the sum, or between bounds the norm, of which no square overflows.
        unit = 1 if box is None else jnp.maximum(1, g_max)
        length = jnp.abs(down) if box is None else (down / unit) ** 2
        sy, total = jnp.sum(jnp.stack([change[0] * change[1], length]), axis=1)
        size = jnp.maximum(1, total if box is None else unit * jnp.sqrt(total))
        keep = moved & (sy > 0) & (sy < jnp.inf)
        pair = change * jax.lax.rsqrt(jnp.where(keep, sy, 1))
        pairs = stored(Pairs(run.rows, run.inverse, run.squares, n.pairs), pair, keep)
        gained = (f < was.best_f - eps * jnp.abs(was.best_f)) | (g_max < 0.5 * was.best_g)
        better = over & (gained | first)
        idle = jnp.where(better, 0, n.idle + over.astype(jnp.int32))
        # Pairs may have misled a search that found nothing and searches that gain nothing. The next
        # one goes along the gradient, and is the last if it does no better. Where rounding errors
        # of the pairs made the slope rise nothing was searched: that does not count.
        failed = over & ~first & (~moved | (idle >= PATIENCE))
        in_vain = ~better & (n.pairs == 0)
        no_use = f >= was.mark - jnp.sqrt(eps) * jnp.abs(f)
        counted = failed & ~rises
        stop = failed & (in_vain | no_use | (counted & (n.restarts <= 0)))
        pairs = pairs._replace(n=jnp.where(failed, 0, pairs.n))
        f_limit, x_limit = limits["tolerance_value"], limits["tolerance_params"]
        f_scale = jnp.maximum(1, jnp.maximum(jnp.abs(was.f), jnp.abs(f)))
        # No decrease can be seen along the gradient, or the gradient is small by the measure of
        # Dennis and Schnabel (1983, section 7.2).
        promise = -was.slope * jnp.where(moved, search.low[0], search.high[0])
        unseen = ~rises & (promise <= noise)
        flat = scaled_max <= jnp.cbrt(eps) * jnp.maximum(1, jnp.abs(f))
        status = jnp.where(stop, jnp.where(unseen | flat, PRECISION, SEARCH), RUNNING)
        rules = (
            (moved & (x_limit > 0) & (step_max <= x_limit * jnp.maximum(1, x_max)), PARAMS),
            (moved & (f_limit > 0) & (jnp.abs(f - was.f) <= f_limit * f_scale), VALUE),
            (over & (g_max <= limits["tolerance_grad"]), GRADIENT),
            (first & ~(jnp.isfinite(f) & jnp.isfinite(g_max)), NOT_FINITE),
        )
        for met, reason in rules:
            status = jnp.where(met, reason, status)

        def onward(state: tuple[Array, ...]) -> tuple[Array, ...]:
            known = pairs._replace(inverse=state[2], squares=state[3])
            most = size if box is None else jnp.maximum(1, jnp.max(jnp.abs(low[1]), initial=0))
            d, *tables = newton_step(known, pair[1], low[1], keep & ~failed, most)
            if box is not None:
                d = bounded_step(known, d, *low, *box) / jnp.where(first & ~boxed, size, 1)
            return low, d, *tables, jnp.sum(d * low[1])

        here, d, inverse, squares, slope = once_if(
            over, onward, (run.here, run.d, run.inverse, run.squares, was.slope)
        )
        t, t_max = jnp.ones_like(f), jnp.full_like(f, jnp.inf)
        if box is not None:
            t_max = jnp.maximum(longest(low[0], d, *box), 1)
        best_f, best_g = either(better, (f, g_max), (was.best_f, was.best_g))
        mark = jnp.where(failed, f, was.mark)
        begun = Numbers(f, slope, t, t_max, best_f, best_g, mark, jnp.zeros_like(f))
        going = was._replace(t=search.t, stuck=search.stuck.astype(dtype))
        ends = jnp.stack([jnp.stack([jnp.zeros_like(f), f, slope]), jnp.full(3, jnp.inf, dtype)])
        counts = Counts(
            steps=n.steps + moved.astype(jnp.int32),
            evaluations=n.evaluations + 1,
            idle=idle,
            restarts=n.restarts - counted.astype(jnp.int32),
            status=status.astype(jnp.int32),
            trials=jnp.where(over, 0, search.trials),
            pairs=pairs.n,
        )
        return Run(
            here=here,
            low=low,
            d=d,
            auxes=(either(over, aux, run.auxes[0]), aux),
            rows=pairs.rows,
            inverse=inverse,
            squares=squares,
            ends=jnp.where(over, ends, jnp.stack([search.low, search.high])),
            numbers=jnp.stack(either(over, begun, going)),
            counts=jnp.stack(counts),
            trace=traced(run.trace, moved | first, counts.steps, f),
        )

    def goes_on(run: Run) -> Array:
        n = Counts(*run.counts)
        more: Array = (n.steps < limits["max_steps"]) | (n.evaluations == 0)
        return (n.status == RUNNING) & more

    shapes = jax.eval_shape(look, start)[1]
    aux = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    at = jnp.stack([start, jnp.zeros_like(start)])
    none = Pairs.none(HISTORY, start)
    # Arrays that are not of one number throughout are constants, and cost no kernel.
    constant: Any = np.asarray
    begin = Run(
        here=at,
        low=at,
        d=start,  # the first trial goes nowhere
        auxes=(aux, aux),
        rows=none.rows,
        inverse=none.inverse,
        squares=none.squares,
        ends=constant([[0, np.inf, 0], [np.inf] * 3], dtype),
        numbers=constant([np.inf, 0, 0, *[np.inf] * 4, 0], dtype),
        counts=constant([0, 0, 0, MAX_RESTARTS, RUNNING, 0, 0], np.int32),
        trace=untraced(trace, dtype),
    )
    end = jax.lax.while_loop(goes_on, turn, begin)
    last, n = Numbers(*end.numbers), Counts(*end.counts)
    tables: Any = {"rows": end.rows, "inverse": end.inverse, "squares": end.squares}
    return Minimum(
        params=packed.part(end.here[0]),
        value=last.f,
        aux=end.auxes[0],
        grad_norm=jnp.max(jnp.abs(downhill(*end.here)), initial=0),
        steps=n.steps,
        evaluations=n.evaluations,
        status=n.status,
        state=tables,
        trace=end.trace,
    )
