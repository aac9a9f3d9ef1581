"""Line search: a step length along a direction that satisfies the strong Wolfe conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import stacked
from jopt.numerics.loops import while_loop

Evaluate = Callable[[Array], tuple[Array, Any, Array]]

BRACKETING, ZOOMING, FINISHED = 0, 1, 2


class Point(NamedTuple):
    """A step length `t` with the value `f` and the slope along the direction there."""

    t: Array
    f: Array
    slope: Array


class Found(NamedTuple):
    """The step length that the search chose, value and gradient there, and what it cost."""

    t: Array
    f: Array
    g: Any
    evaluations: Array


class _Search(NamedTuple):
    phase: Array
    t: Array  # where to evaluate next
    prev: Point  # bracketing: the trial before
    ends: Point  # zooming: both ends of the bracket, each field of shape (2,)
    low: Array  # which end has the lower value
    g: Any  # bracketing: the gradient at `prev`; zooming: at the low end
    stuck: Array  # zooming: the last trial was close to an end
    steps: Array
    evaluations: Array


def cubic_minimum(a: Point, b: Point, low: Array, high: Array) -> Array:
    """The minimum in [low, high] of the cubic with these values and slopes at `a` and `b`.

    The middle of [low, high] where the cubic has no minimum or a value is not finite.
    """
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1**2 - a.slope * b.slope
    d2 = jnp.sqrt(jnp.maximum(square, 0))
    left, right = either(a.t <= b.t, (a, b), (b, a))
    best = right.t - (right.t - left.t) * (
        (right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2)
    )
    found = (square >= 0) & ~jnp.isnan(best) & jnp.isfinite(a.f + b.f)
    return jnp.where(found, jnp.clip(best, low, high), (low + high) / 2)


def strong_wolfe(
    evaluate: Evaluate,
    t: Array,
    f: Array,
    g: Any,
    slope: Array,
    *,
    d_max: Array,
    max_steps: Array | int,
    tolerance: Array,
    go: Array | bool = True,
    c1: float = 1e-4,
    c2: float = 0.9,
    t_max: Array | None = None,
    stretch: Array | float = 10.0,
    slack: Array | None = None,
    approx: Array | None = None,
) -> Found:
    """A step length t with f(t) ≤ f + c₁·t·f′ and |f′(t)| ≤ c₂·|f′|, by bracketing and zooming.

    Branch for branch torch's `_strong_wolfe`, as one loop whose body evaluates once, so that a
    large function is compiled once. A trial whose value or slope is not finite counts as
    infinitely high, and the next one lies half way back from it; torch goes on outwards.

    **Arguments:**

    - `evaluate`: from a step length to the value, the gradient (any pytree) and the slope there.
    - `t`: the first trial.
    - `f`, `g`, `slope`: the same three at 0.
    - `d_max`: the largest entry of the direction.
    - `max_steps`: how many trials may follow the first.
    - `tolerance`: zooming ends when no entry of the bracket is longer.
    - `go`: `False` evaluates nothing and stays at 0.
    - `c1`, `c2`: the constants of Armijo's and of Wolfe's condition.
    - `t_max`: the longest step; where the function falls still there, it is taken.
    - `stretch`: how many times as long the next trial may be, while bracketing.
    - `slack`: by how much either condition may fail.
    - `approx`: the approximate condition of Hager and Zhang, too: f(t) ≤ f + ε·|f| and
      f′(t) ≤ (2·c₁ − 1)·f′, where rounding leaves nothing of the differences of f.

    **Returns:** the lowest point found, which is 0 if there is none below.

    Source: Nocedal and Wright, 2006, algorithms 3.5 and 3.6, in the form of Schmidt's minFunc.
    """
    start = Point(jnp.zeros_like(t), f, slope)

    def next_trial(ends: Point, stuck: Array) -> tuple[Array, Array]:
        left, right = jnp.min(ends.t), jnp.max(ends.t)
        a, b = (Point(*(x[i] for x in ends)) for i in (0, 1))
        t = cubic_minimum(a, b, left, right)
        # Too close to an end for the second time, or at it: a tenth of the bracket inwards.
        margin = 0.1 * (right - left)
        close = jnp.minimum(right - t, t - left) < margin
        push = close & (stuck | (t >= right) | (t <= left))
        inner = jnp.where(jnp.abs(t - right) < jnp.abs(t - left), right - margin, left + margin)
        return jnp.where(push, inner, t), close & ~push

    def body(s: _Search) -> _Search:
        f_new, g_new, slope_new = evaluate(s.t)
        bad = ~(jnp.isfinite(f_new) & jnp.isfinite(slope_new))
        new = Point(s.t, jnp.where(bad, jnp.inf, f_new), slope_new)
        more = 0 if slack is None else slack
        high = new.f > f + c1 * s.t * slope + more
        wolfe = jnp.abs(slope_new) <= -c2 * slope + more
        fine = jnp.asarray(False)
        if approx is not None:
            fine = slope_new <= (2 * c1 - 1) * slope + more
            fine &= new.f <= f + approx * jnp.abs(f)
            high, fine = high & ~fine, fine & wolfe
        bracketing = s.phase == BRACKETING

        # Bracketing: does the last step contain a minimum? Else go further out.
        spent = s.steps >= max_steps
        above = (high | ((s.steps > 1) & (new.f >= s.prev.f))) & ~fine
        capped = False if t_max is None else (slope_new < 0) & (s.t >= t_max)
        done = ~spent & ~above & (wolfe | capped)
        enclosed = ~spent & (above | (~wolfe & (slope_new >= 0)))
        outwards = bracketing & ~(spent | done | enclosed)
        near = either(spent, start, either(done, new, s.prev))
        ends_b = Point(*(stacked(pair) for pair in zip(near, new, strict=True)))
        low_b = _lower(ends_b)
        phase_b = jnp.where(enclosed, ZOOMING, jnp.where(outwards, BRACKETING, FINISHED))
        take_b = outwards | (low_b == 1) | done

        # Zooming: the new point replaces one end, or both.
        replaced = Point(*(x.at[1 - s.low].set(y) for x, y in zip(s.ends, new, strict=True)))
        raised = (high | (new.f >= s.ends.f[s.low])) & ~fine
        wolfe_z = ~raised & wolfe
        across = slope_new * (s.ends.t[1 - s.low] - s.ends.t[s.low]) >= 0
        turned = ~raised & ~wolfe & across
        swapped = Point(*(x.at[1 - s.low].set(x[s.low]) for x in s.ends))
        kept = either(turned, swapped, s.ends)
        lowered = Point(*(x.at[s.low].set(y) for x, y in zip(kept, new, strict=True)))
        ends_z = either(raised, replaced, lowered)
        low_z = jnp.where(raised, _lower(ends_z), s.low)
        take_z = ~raised | (low_z != s.low)
        phase_z = jnp.where(wolfe_z, FINISHED, ZOOMING)

        steps = s.steps + jnp.where(bracketing & ~outwards, 0, 1)
        ends = either(bracketing, ends_b, ends_z)
        low = jnp.where(bracketing, low_b, low_z)
        phase = jnp.where(bracketing, phase_b, phase_z)
        small = jnp.abs(ends.t[1] - ends.t[0]) * d_max < tolerance
        phase = jnp.where((phase == ZOOMING) & ((steps >= max_steps) | small), FINISHED, phase)
        # Where the search ran out while bracketing, its low end may be the start.
        g_low = either(bracketing & spent, g, s.g)
        g_next = either(jnp.where(bracketing, take_b, take_z), g_new, g_low)

        least, most = s.t + 0.01 * (s.t - s.prev.t), s.t * stretch
        if t_max is not None:
            least, most = jnp.minimum(least, t_max), jnp.minimum(most, t_max)
        further = cubic_minimum(s.prev, new, least, most)
        inner, stuck = next_trial(ends, s.stuck & ~bracketing)
        return _Search(
            phase=phase,
            t=jnp.where(outwards, further, inner),
            prev=new,
            ends=ends,
            low=low,
            g=g_next,
            stuck=stuck,
            steps=steps,
            evaluations=s.evaluations + 1,
        )

    zero = jnp.int32(0)
    both = Point(*(stacked([x, x]) for x in start))
    first = jnp.where(jnp.asarray(go), BRACKETING, FINISHED)
    init = _Search(first, t, start, both, zero, g, jnp.asarray(False), zero, zero)
    end = while_loop(lambda s: s.phase != FINISHED, body, init)
    return Found(end.ends.t[end.low], end.ends.f[end.low], end.g, end.evaluations)


def _lower(ends: Point) -> Array:
    return jnp.where(ends.f[0] <= ends.f[1], 0, 1).astype(jnp.int32)


def either(which: Array, a: Any, b: Any) -> Any:
    """The tree `a` where `which`, else `b`."""
    return jax.tree.map(lambda x, y: jnp.where(which, x, y), a, b)


def backtracking(
    evaluate: Callable[[Array], Array],
    t: Array,
    f: Array,
    slope: Array,
    *,
    max_steps: Array | int,
    shrink: Array | float,
    c1: Array | float = 1e-4,
    rtol: Array | float = 0.0,
    atol: Array | float = 0.0,
) -> tuple[Array, Array]:
    """A step length t with f(t) ≤ (1 + rtol)·f + c₁·t·f′ + atol; each trial is `shrink`·t.

    **Arguments:** `evaluate`: from a step length to the value there; `t`: the first trial; `f`,
    `slope`: value and slope at 0; `max_steps`: how many trials may follow the first.

    **Returns:** the last trial's t, or 0 where that is neither low enough nor below f, NaN and
    infinity among them; and how many trials there were.

    Source: Armijo, 1966; Nocedal and Wright, 2006, algorithm 3.1.
    """

    def low(t: Array, found: Array) -> Array:
        return found <= (1 + rtol) * f + c1 * t * slope + atol

    def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        t, _, n = carry
        t = shrink * t
        return t, evaluate(t), n + 1

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        t, found, n = carry
        return ~low(t, found) & (n <= max_steps)

    t, found, n = while_loop(goes_on, body, (t, evaluate(t), jnp.int32(1)))
    return jnp.where(jnp.isfinite(found) & (low(t, found) | (found < f)), t, 0), n
