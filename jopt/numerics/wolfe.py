"""A line search for the strong Wolfe conditions, one trial at a time.

The caller evaluates: its loop holds the search as data, and the function stands in it once. A
point of the search is an array of three numbers: step length, value and slope. XLA compiles a
kernel for each array, which for numbers costs far more than their arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import stacked
from jopt.numerics.line_search import Point, cubic_minimum

C1, C2 = 1e-4, 0.9


class Search(NamedTuple):
    """Where a search is: the next trial, and the ends between which a minimum lies.

    The length at the `high` end is infinite as long as there is none. `stuck`: the last trial
    was close to an end.
    """

    t: Array
    low: Array
    high: Array
    stuck: Array


class Step(NamedTuple):
    """The search after a trial; whether that satisfies, and is the new low end."""

    search: Search
    done: Array
    lower: Array


def advance(
    s: Search,
    f_new: Array,
    slope_new: Array,
    *,
    f: Array,
    slope: Array,
    noise: Array,
    t_max: Array | float,
) -> Step:
    """What the value and the slope at `s.t` say.

    The trial t satisfies where, with ε the `noise` of the values,

        f(t) ≤ f + c₁·t·f′ + ε
        f(t) ≤ f(low) + ε
        |f′(t)| ≤ c₂·|f′|, or t = t_max and f′(t) < 0

    Where decreases are lost in the noise the slopes decide alone. A value or slope that is not
    finite counts as infinitely high; the next trial is half way back from it.

    Outwards it goes four times as far where the slope grows, for the cubic then has its minimum
    behind, and to `t_max` where that is at most twice as far on.

    **Arguments:** `f`, `slope`: at 0; `t_max`: the longest step.

    Source: Nocedal and Wright, 2006, algorithms 3.5 and 3.6, the next trial as in Schmidt's
    minFunc; the noise is that of Hager and Zhang, 2005.
    """
    bad = ~(jnp.isfinite(f_new) & jnp.isfinite(slope_new))
    f_new = jnp.where(bad, jnp.inf, f_new)
    new = stacked([s.t, f_new, slope_new])
    above = bad | (f_new > jnp.minimum(f + C1 * s.t * slope, s.low[1]) + noise)
    at_end = (s.t >= t_max) & (slope_new < 0)
    done = ~above & ((jnp.abs(slope_new) <= -C2 * slope) | at_end)
    rises = slope_new * (s.high[0] - s.low[0]) >= 0
    high = jnp.where(above, new, jnp.where(rises, s.low, s.high))
    low = jnp.where(above, s.low, new)

    # Outwards as long as nothing encloses a minimum, else between the ends.
    out = jnp.isinf(high[0])
    a, b = jnp.where(out, s.low, low), jnp.where(out, new, high)
    further = jnp.minimum(s.t + 0.01 * (s.t - s.low[0]), t_max)
    left = jnp.where(out, further, jnp.minimum(a[0], b[0]))
    right = jnp.where(out, jnp.minimum(10 * s.t, t_max), jnp.maximum(a[0], b[0]))
    t = cubic_minimum(Point(*a), Point(*b), left, right)
    t = jnp.where(out & (slope_new <= s.low[2]), s.t + 4 * (s.t - s.low[0]), t)
    t = jnp.where(out & (t - s.t >= 0.5 * (t_max - s.t)), t_max, t)
    return Step(s._replace(t=t, low=low, high=high), done, ~above)


def off_the_ends(s: Search) -> Search:
    """The search with its trial kept off the ends, once the trial before was close to one, too.

    Then it is a tenth of the bracket inwards, as one at an end or beyond is at once.
    """
    ends = s.low[0], s.high[0]
    left, right = jnp.minimum(*ends), jnp.maximum(*ends)
    margin = 0.1 * (right - left)
    close = jnp.isfinite(right) & (jnp.minimum(right - s.t, s.t - left) < margin)
    push = close & (s.stuck | (s.t >= right) | (s.t <= left))
    t = jnp.where(push, jnp.clip(s.t, left + margin, right - margin), s.t)
    return s._replace(t=t, stuck=close & ~push)
