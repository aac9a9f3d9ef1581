"""One cycle: up, down, and far down."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_traced
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import Anneal, between, check, check_choice, check_range

Phase = tuple[float, float, float]  # its last step, its first value, its last value


@schedule
def onecycle(
    peak_value: float,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    anneal: Anneal = "cosine",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """From init = peak / div_factor up to peak and down to init / final_div_factor.

    As torch's `OneCycleLR`. With p = pct_start and T = total_steps the peak is at step p·T − 1
    (not a whole number, perhaps), and the end at T − 1, the last of T steps. With `three_phase`
    the way down is as long as the way up and leads to init, from where the rest of the steps
    go on down to the end.

    **Arguments** (defaults are torch's): `pct_start` in [0, 1]; `anneal`: `"cosine"` (torch:
    `"cos"`) or `"linear"`; `div_factor` and `final_div_factor` > 0.

    After the last step it stays at the end: torch goes up for one step more, and then raises.
    If p·T is 1 the peak is at step 0, where torch divides by zero.

    `onecycle_momentum` is what torch lets a momentum do meanwhile.

    Source: Smith and Topin, 2019, with torch's two phases by default.

    >>> [round(float(onecycle(1.0, 5, pct_start=0.6)(t)), 6) for t in (0, 1, 2, 3, 4, 9)]
    [0.04, 0.52, 1.0, 0.500002, 4e-06, 4e-06]
    """
    check_range("onecycle", 0.0, float("inf"), div_factor=div_factor, final=final_div_factor)
    for name, given in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
        if not is_traced(given) and given == 0:
            raise ConfigError("onecycle", f"{name} divides", expected="above 0", found=given)
    init = peak_value / div_factor
    corners = init, peak_value, init, init / final_div_factor
    return _phased("onecycle", corners, total_steps, pct_start, anneal, three_phase)


@schedule
def onecycle_momentum(
    total_steps: int,
    *,
    base_value: float = 0.85,
    max_value: float = 0.95,
    pct_start: float = 0.3,
    anneal: Anneal = "cosine",
    three_phase: bool = False,
) -> Schedule:
    """max, down to base where `onecycle` peaks, and back. Torch's `cycle_momentum=True`.

    Give it to `momentum=` or `b1=`, with the arguments of the rate's `onecycle`.

    >>> [round(float(onecycle_momentum(5, pct_start=0.6)(t)), 6) for t in (0, 1, 2, 3, 4, 9)]
    [0.95, 0.9, 0.85, 0.9, 0.95, 0.95]
    """
    corners = max_value, base_value, max_value, max_value
    return _phased("onecycle_momentum", corners, total_steps, pct_start, anneal, three_phase)


def _phased(
    who: str,
    corners: tuple[float, float, float, float],
    total: int,
    pct_start: float,
    anneal: str,
    three_phase: bool,
) -> Schedule:
    last = check(who, total_steps=total)[0] - 1
    check_range(who, 0.0, 1.0, pct_start=pct_start)
    if is_traced(pct_start):
        raise ConfigError(
            who, "pct_start shapes the curve, and cannot be traced", expected="a Python number"
        )
    check_choice(who, "anneal", anneal, ("cosine", "linear"))
    first, peak, back, end = corners
    edge = float(pct_start * total) - 1
    phases: list[Phase] = [(edge, first, peak)]
    if three_phase:
        phases += [(float(2 * pct_start * total) - 2, peak, back), (last, back, end)]
    else:
        phases += [(last, peak, end)]

    def value(t: Array) -> Array:
        t = jnp.minimum(t, last)
        begins = [0.0, *(p[0] for p in phases)]
        now: Array | None = None
        for start, (stop, a, b) in reversed(list(zip(begins, phases, strict=False))):
            # A phase of no length is over at once; one that ends before step 0 is never seen.
            here = between(a, b, t - start, stop - start, anneal) if stop > start else b
            now = jnp.full_like(t, here) if now is None else jnp.where(t <= stop, here, now)
        return jnp.asarray(now)

    return Schedule(value)
