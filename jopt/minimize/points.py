"""What a turn of `by_pairs` does with points: from a trial to what is kept of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jopt.minimize.turn import Filed, Run, Turn, decided, filed, tried
from jopt.numerics import Search, one_kernel
from jopt.numerics.explicit import stacked

HISTORY = 100
FEW = 100
"""Up to so many parameters all of this is one kernel on a CPU."""

Box = tuple[Array, Array] | None


class Settled(NamedTuple):
    """After a trial: the lowest point of the search, run and search, and what is to do.

    `lower`: is the lowest point that of the trial?
    """

    low: Array
    run: Run
    search: Search
    then: Turn
    pair: Filed
    lower: Array


def inside(x: Array, box: Box) -> Array:
    """`x`, moved between the bounds."""
    return x if box is None else jnp.clip(x, *box)


@one_kernel
def reached(here: Array, d: Array, t: Array, box: Box) -> Array:
    """The point of a trial."""
    return inside(here[0] + t * d, box)


def _settled(
    kernels: tuple[Callable[..., Any], ...],
    was: tuple[Array, Array],
    d: Array,
    new: tuple[Array, Array, Array],
    search: Search,
    run: Run,
    t_max: Array | None,
    pairs: tuple[Array, Array, Array],
    limits: tuple[list[Array], Array],
    box: Box,
) -> Settled:
    """What a trial means.

    **Arguments:** `was`, where the search began and its lowest point before, each a point with its
    gradient; `new`, point, value and gradient of the trial; `pairs`, γ, how many and the newest.
    """
    here, low = was
    x, f, g = new
    try_, decide, file = kernels
    slopes = jnp.sum(stacked([here[1], g]) * d[None], axis=1)
    slope = slopes[0]
    trial = try_(search, run, slope, jnp.inf if t_max is None else t_max, f, slopes[1])
    low = jnp.where(trial.lower, stacked([x, g]), low)

    change = low - here
    down = -low[1] if box is None else inside(low[0] - low[1], box) - low[0]
    scaled = down * jnp.maximum(1, jnp.abs(low[0]))
    rows = stacked([low[0], down, change[0], scaled, change[1]])
    sizes = jnp.max(jnp.abs(rows), axis=1) if d.size else jnp.zeros(5, d.dtype)
    run, then = decide(run, trial, search.t, slope, f, sizes, pairs[1], *limits)
    # Of no square there is an overflow. Of the gradient it is the sum without bounds.
    unit = None if box is None else jnp.maximum(1, run.g)
    length = jnp.abs(down) if unit is None else (down / unit) ** 2
    curve = (change[1] * then.per_y) ** 2
    sums = jnp.sum(stacked([change[0] * change[1], curve, length]), axis=1)
    pair = file(then, *pairs, sizes, sums, unit)
    search = trial.search._replace(t=then.t, stuck=then.stuck)
    return Settled(low, run, search, then, pair, trial.lower)


Settle = Callable[..., Settled]
_DECISIONS: tuple[Callable[..., Any], ...] = tried, decided, functools.partial(filed, rows=HISTORY)
settled: Settle = one_kernel(functools.partial(_settled, _DECISIONS))
settled_of_many: Settle = functools.partial(_settled, tuple(map(one_kernel, _DECISIONS)))
