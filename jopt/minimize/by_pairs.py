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
    stored,
    tabled,
)

HISTORY = 100
BOUNDED_HISTORY = 20
"""Between bounds a step costs the cube of it."""
MAX_TRIALS = 25
PATIENCE = 5
"""After so many steps that lower neither the value nor the gradient the pairs are forgotten."""
MAX_RESTARTS = 10
"""So often the pairs may be forgotten; along the gradient alone a search could go on for ever."""
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
    pairs: Pairs
    ends: Array  # of the search
    numbers: Array
    counts: Array
    trace: Array | None


class Numbers(NamedTuple):
    """Value and slope at the start of the search, its trial and limit; the last progress."""

    f: Array
    slope: Array
    t: Array
    t_max: Array
    best_f: Array
    best_g: Array


class Counts(NamedTuple):
    """Of the whole run, but for `trials` of the search and whether it is `stuck`."""

    steps: Array
    evaluations: Array
    idle: Array
    restarts: Array
    status: Array
    trials: Array
    stuck: Array


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
            Search(was.t, run.ends[0], run.ends[1], n.stuck > 0, n.trials),
            f_new,
            jnp.sum(new[1] * run.d),
            f=was.f,
            slope=was.slope,
            noise=noise,
            t_max=was.t_max,
            max_trials=MAX_TRIALS,
        )
        lower, over = found.lower | first, found.done | found.spent | first
        low, aux = either(lower, (new, aux), (run.low, run.auxes[1]))
        f = jnp.where(first, f_new, found.search.low[1])
        moved = over & ~first & (found.search.low[0] > 0)

        change = low - run.here
        sy = jnp.sum(change[0] * change[1])
        keep = moved & (sy > 0) & (sy < jnp.inf)
        pair = change * jax.lax.rsqrt(jnp.where(keep, sy, 1))
        pairs = stored(run.pairs, pair, keep)
        down = downhill(*low)
        scaled = down * jnp.maximum(1, jnp.abs(low[0]))
        sizes = jnp.abs(jnp.stack([low[0], down, change[0], scaled]))
        x_max, g_max, step_max, scaled_max = jnp.max(sizes, axis=1, initial=0)
        gained = (f < was.best_f - eps * jnp.abs(was.best_f)) | (g_max < 0.5 * was.best_g)
        better = over & (gained | first)
        idle = jnp.where(better, 0, n.idle + over.astype(jnp.int32))
        # Pairs may have misled a search that found nothing and searches that gain nothing. The next
        # one goes along the gradient, and is the last if it does no better.
        failed = over & ~first & (~moved | (idle >= PATIENCE))
        in_vain = ~better & (run.pairs.n == 0)
        stop = failed & (in_vain | (n.restarts >= MAX_RESTARTS))
        pairs = pairs._replace(n=jnp.where(failed, 0, pairs.n))
        f_limit, x_limit = limits["tolerance_value"], limits["tolerance_params"]
        f_scale = jnp.maximum(1, jnp.maximum(jnp.abs(was.f), jnp.abs(f)))
        # No decrease can be seen along the gradient, or the gradient is small by the measure of
        # Dennis and Schnabel (1983, section 7.2).
        search = found.search
        unseen = -was.slope * jnp.where(moved, search.low[0], search.high[0]) <= noise
        flat = scaled_max <= jnp.cbrt(eps) * jnp.maximum(1, jnp.abs(f))
        rules = (
            (first & ~(jnp.isfinite(f) & jnp.isfinite(g_max)), NOT_FINITE),
            (g_max <= limits["tolerance_grad"], GRADIENT),
            (moved & (f_limit > 0) & (jnp.abs(f - was.f) <= f_limit * f_scale), VALUE),
            (moved & (x_limit > 0) & (step_max <= x_limit * jnp.maximum(1, x_max)), PARAMS),
            (stop & (unseen | flat), PRECISION),
            (stop, SEARCH),
        )
        status = jnp.select([over & r for r, _ in rules], [jnp.int32(s) for _, s in rules], RUNNING)

        def onward(pairs: Pairs) -> tuple[Array, Array, Array]:
            if box is None:
                pairs, products = tabled(pairs, pair[1], low[1], keep)
                d, length = newton_step(pairs, low[1], products), jnp.abs(down)
            else:
                d, length = bounded_step(pairs, *low, *box), down**2
            sums = jnp.sum(jnp.stack([d * low[1], down * low[1], length]), axis=1)
            return pairs.tables, d, sums

        def stay(pairs: Pairs) -> tuple[Array, Array, Array]:
            return pairs.tables, run.d, jnp.zeros(3, dtype)

        tables, d, (slope, fall, total) = jax.lax.cond(over, onward, stay, pairs)
        lost = over & ~(slope < 0)
        d, slope = jnp.where(lost, down, d), jnp.where(lost, fall, slope)
        pairs = pairs._replace(tables=tables, n=jnp.where(lost, 0, pairs.n))
        t = 1 / jnp.maximum(1, total if box is None else jnp.sqrt(total))
        t = jnp.where(pairs.n == 0, t, 1)
        t_max = jnp.full_like(t, jnp.inf)
        if box is not None:
            t_max = jnp.maximum(longest(low[0], d, *box), 1)
        begun = Numbers(f, slope, t, t_max, was.best_f, was.best_g)
        numbers = either(over, begun, was._replace(t=found.search.t))
        best = either(better, (f, g_max), numbers[4:])
        ends = jnp.stack([jnp.stack([jnp.zeros_like(f), f, slope]), jnp.full(3, jnp.inf, dtype)])
        counts = Counts(
            steps=n.steps + moved.astype(jnp.int32),
            evaluations=n.evaluations + 1,
            idle=idle,
            restarts=n.restarts + failed.astype(jnp.int32),
            status=status,
            trials=jnp.where(over, 0, found.search.trials),
            stuck=found.search.stuck & ~over,
        )
        return Run(
            here=jnp.where(over, low, run.here),
            low=low,
            d=d,
            auxes=(either(over, aux, run.auxes[0]), aux),
            pairs=pairs,
            ends=jnp.where(over, ends, jnp.stack(found.search[1:3])),
            numbers=jnp.stack([*numbers[:4], *best]),
            counts=jnp.stack([x.astype(jnp.int32) for x in counts]),
            trace=traced(run.trace, moved | first, counts.steps, f),
        )

    def goes_on(run: Run) -> Array:
        n = Counts(*run.counts)
        more: Array = (n.steps < limits["max_steps"]) | (n.evaluations == 0)
        return (n.status == RUNNING) & more

    shapes = jax.eval_shape(look, start)[1]
    aux = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    at = jnp.stack([start, jnp.zeros_like(start)])
    end = jax.lax.while_loop(
        goes_on,
        turn,
        Run(
            here=at,
            low=at,
            d=at[1],
            auxes=(aux, aux),
            pairs=Pairs.none(HISTORY if box is None else BOUNDED_HISTORY, start),
            ends=jnp.zeros((2, 3), dtype),
            numbers=jnp.zeros(len(Numbers._fields), dtype),
            counts=jnp.zeros(len(Counts._fields), jnp.int32),
            trace=untraced(trace, dtype),
        ),
    )
    n = Counts(*end.counts)
    return Minimum(
        params=packed.part(end.here[0]),
        value=end.numbers[0],
        aux=end.auxes[0],
        grad_norm=jnp.max(jnp.abs(downhill(*end.here)), initial=0),
        steps=n.steps,
        evaluations=n.evaluations,
        status=n.status,
        state=end.pairs._asdict(),
        trace=end.trace,
    )
