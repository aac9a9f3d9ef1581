"""What a turn of `by_pairs` decides from numbers alone: how the search goes on, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.minimize.result import GRADIENT, NOT_FINITE, PARAMS, PRECISION, RUNNING, SEARCH, VALUE
from jopt.numerics import Search, Step, advance, counted, either, off_the_ends
from jopt.numerics.explicit import stacked

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
    """Where the run is, beside points and gradients.

    The value at the start of the search and the largest entry of the gradient at its lowest point;
    value and such an entry at the last progress; the value when the pairs were forgotten last.
    Counts are of the whole run, but for `trials` of the search; `restarts` are left.
    """

    f: Array
    g: Array
    best_f: Array
    best_g: Array
    mark: Array
    steps: Array
    evaluations: Array
    idle: Array
    restarts: Array
    status: Array
    trials: Array


class Turn(NamedTuple):
    """What follows for the points: is the search `over`, has it `moved`, are pairs `forgotten`?

    And whether the loop goes on, where the search does, and 1 / max|y|.
    """

    over: Array
    moved: Array
    forgotten: Array
    goes_on: Array
    t: Array
    stuck: Array
    per_y: Array


def noise(f: Array) -> Array:
    """How far a value may be wrong."""
    return NOISE * jnp.finfo(f.dtype).eps * jnp.abs(f)


def is_flat(scaled_max: Array, f: Array) -> Array:
    """Whether |g|·max(1, |x|), at its largest, is small beside f."""
    flat: Array = scaled_max <= jnp.cbrt(jnp.finfo(f.dtype).eps) * jnp.maximum(1, jnp.abs(f))
    return flat


def by_rules(
    status: Array,
    did: tuple[Array, Array, Array],
    values: tuple[Array, Array],
    sizes: Sequence[Array] | Array,
    limits: Sequence[Array],
) -> Array:
    """Why it stops at a point, by the caller's limits; `status` where by none of them.

    **Arguments:** `did`: is it the first point, was there a step to it, is it looked at? `values`,
    before and at it; `sizes` and `limits`, see `decided`.
    """
    (first, moved, over), (before, f) = did, values
    (x_max, g_max, step_max), (f_limit, x_limit, g_limit) = sizes[:3], limits
    f_scale = jnp.maximum(1, jnp.maximum(jnp.abs(before), jnp.abs(f)))
    rules = (
        (moved & (x_limit > 0) & (step_max <= x_limit * jnp.maximum(1, x_max)), PARAMS),
        (moved & (f_limit > 0) & (jnp.abs(f - before) <= f_limit * f_scale), VALUE),
        (over & (g_max <= g_limit), GRADIENT),
        (first & ~(jnp.isfinite(f) & jnp.isfinite(g_max)), NOT_FINITE),
    )
    for met, reason in rules:
        status = jnp.where(met, reason, status)
    return status.astype(jnp.int32)


def tried(s: Search, run: Run, slope: Array, t_max: Array, f_new: Array, slope_new: Array) -> Step:
    """What a trial says; of a search's first the ends are yet to be made."""
    begins, none = run.trials == 0, jnp.inf
    low = jnp.where(begins, stacked([jnp.zeros_like(slope), run.f, slope]), s.low)
    s = s._replace(low=low, high=jnp.where(begins, none, s.high))
    step = advance(s, f_new, slope_new, f=run.f, slope=slope, noise=noise(run.f), t_max=t_max)
    return step._replace(lower=step.lower | (run.evaluations == 0))


def decided(
    run: Run,
    trial: Step,
    t: Array,
    slope: Array,
    f_new: Array,
    sizes: Array,
    pairs: Array,
    limits: Sequence[Array],
    max_steps: Array,
) -> tuple[Run, Turn]:
    """What follows from a trial for the run.

    **Arguments:** `t`, its length; `slope`, at the start of the search; `sizes`, at its lowest
    point the largest entries of |x|, |g|, |x − x₀|, |g|·max(1, |x|) and |g − g₀|; `limits`, the
    tolerances for value, parameters and gradient.
    """
    _, g_max, way_max, scaled_max, y_max = sizes
    eps = jnp.finfo(f_new.dtype).eps
    # The slope is 0 at first; where rounding errors make it rise the search is over at once.
    search, rises, first = off_the_ends(trial.search), ~(slope < 0), run.evaluations == 0
    f = jnp.where(first, f_new, search.low[1])
    most = jnp.where(-slope * t <= noise(run.f), FEW_TRIALS, MAX_TRIALS)
    empty = search.high[0] == search.low[0]
    over = trial.done | (run.trials + 1 >= most) | empty | rises
    # A step too short to change any entry of x is none: the next search would be the same again.
    moved = over & (way_max > 0)
    gained = (f < run.best_f - eps * jnp.abs(run.best_f)) | (g_max < 0.5 * run.best_g)
    better = over & (gained | first)
    idle = jnp.where(better, 0, run.idle + over.astype(jnp.int32))
    # Pairs may have misled a search that found nothing and searches that gain nothing. The next
    # one goes along the gradient, and is the last if it does no better. Where rounding errors
    # of the pairs made the slope rise nothing was searched: that does not count.
    failed = over & ~first & (~moved | (idle >= PATIENCE))
    in_vain = ~better & (pairs == 0)
    no_use = f >= run.mark - jnp.sqrt(eps) * jnp.abs(f)
    counted = failed & ~rises
    stop = failed & (in_vain | no_use | (counted & (run.restarts <= 0)))
    # No decrease can be seen along the gradient, or the gradient is small by the measure of
    # Dennis and Schnabel (1983, section 7.2).
    promise = -slope * jnp.where(search.low[0] > 0, search.low[0], search.high[0])
    unseen = ~rises & (promise <= noise(run.f))
    flat = is_flat(scaled_max, f)
    status = jnp.where(stop, jnp.where(unseen | flat, PRECISION, SEARCH), RUNNING)
    status = by_rules(status, (first, moved, over), (run.f, f), sizes, limits)
    steps = run.steps + moved.astype(jnp.int32)
    best_f, best_g = either(better, (f, g_max), (run.best_f, run.best_g))
    now = Run(
        f=jnp.where(over, f, run.f),
        g=g_max,
        best_f=best_f,
        best_g=best_g,
        mark=jnp.where(failed, f, run.mark),
        steps=steps,
        evaluations=run.evaluations + 1,
        idle=idle,
        restarts=run.restarts - counted.astype(jnp.int32),
        status=status,
        trials=jnp.where(over, 0, run.trials + 1),
    )
    goes_on = (now.status == RUNNING) & (steps < max_steps)
    t, stuck = jnp.where(over, 1, search.t), search.stuck & ~over
    per_y = 1 / jnp.where(y_max > 0, y_max, 1)
    return now, Turn(over, moved, failed, goes_on, t, stuck, per_y)


class Filed(NamedTuple):
    """Whether the pair of the search is kept, and what it is multiplied by; the pairs' numbers.

    And what `newton_step` divides by.
    """

    keep: Array
    scale: Array
    gamma: Array
    n: Array
    last: Array
    size: Array


def filed(
    then: Turn,
    gamma: Array,
    n: Array,
    last: Array,
    sizes: Array,
    sums: Array,
    unit: Array | None,
    rows: int,
) -> Filed:
    """What becomes of the pair s, y, the ways of point and gradient along the search.

    **Arguments:** `sums`: sᵀy, yᵀy / max|y|² and ‖g‖₁ at the end; with a `unit` (‖g‖ / unit)².
    """
    sy, yy, total = sums
    scale = jax.lax.rsqrt(jnp.where(sy > 0, sy, 1))
    newest = sy * then.per_y / yy * then.per_y
    fits = (newest > 0) & jnp.isfinite(newest) & jnp.isfinite(sizes[2] * scale)
    keep = then.moved & ~then.forgotten & (sy > 0) & (sy < jnp.inf) & fits
    n, last = counted(n, last, rows, keep, then.forgotten)
    gamma = jnp.where(then.forgotten, 1, jnp.where(keep, newest, gamma))
    size = total if unit is None else unit * jnp.sqrt(total)
    return Filed(keep, scale, gamma, n, last, jnp.maximum(1, size))
