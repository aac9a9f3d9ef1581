"""Leaving out steps whose gradient is longer than it may be."""

from __future__ import annotations

from typing import Any

from jopt.base import configured
from jopt.core import Hyper, Spec, Transform, Value, chain
from jopt.numerics import global_norm
from jopt.wrappers.judged import TALLY, JudgePart, tallied

SPEC = Spec("skip_large_updates", (Hyper("max_norm", "[0, inf)"),), slots=TALLY, steps=False)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `skip_large_updates`; the norm of what is not finite is not below anything."""
    norm = global_norm(g)
    return g, tallied(s, norm <= h.max_norm.astype(norm.dtype))


@configured("jopt.")
def skip_large_updates(tx: Any, max_norm: Value) -> Transform:
    """Leave a step out if the norm of all gradients together is above c, or not finite.

    Parameters, moments, schedules and step counts are then what they were.

    **Arguments:** `tx`: any transform; `max_norm`: c ≥ 0, a number or a schedule (of the updates,
    not of the steps taken). optax takes the square of c.

    **State:** that of `tx`, and under `skip_large_updates` how many steps were left out, in
    `total` and `in_a_row` up to now. Metrics of those are kept as by `jopt.skip_nonfinite`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.skip_large_updates(jopt.sgd(1.0), 5.0)
    >>> params = {"w": jnp.zeros(2)}
    >>> tx.update({"w": jnp.array([3.0, 4.1])}, tx.init(params), params)[0]
    {'w': Array([0., 0.], dtype=float32)}
    """
    part = JudgePart(SPEC, rule, None, None, {"max_norm": max_norm})
    return chain(Transform({"skip_large_updates": part}), tx)
