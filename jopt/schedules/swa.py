"""From a schedule to the constant rate of weight averaging."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import Anneal, as_function, between, check, check_choice


@schedule
def swa(
    init_value: Any, swa_value: float, steps: int = 10, *, start: int = 0, anneal: Anneal = "cosine"
) -> Schedule:
    """init until `start`, from its value there to swa_value over `steps`, then flat.

    As torch's `swa_utils.SWALR`, together with the schedule that it takes over from.

    **Arguments** (defaults are torch's): `init_value`: a number or a schedule; `steps` ≥ 0:
    torch's anneal_epochs, 0 for a jump; `start`: the step from which on it is SWA's; `anneal`:
    `"cosine"` (torch: `"cos"`) or `"linear"`.

    Source: Izmailov et al., 2018.

    >>> [round(float(swa(1.0, 0.5, steps=2)(t)), 6) for t in (0, 1, 2, 9)]
    [1.0, 0.75, 0.5, 0.5]
    """
    length, begin = check("swa", 0, steps=steps, start=start)
    check_choice("swa", "anneal", anneal, ("cosine", "linear"))
    before = as_function("swa", init_value)

    def value(t: Array) -> Array:
        if steps == 0:
            return jnp.where(t < begin, before(t), swa_value).astype(t.dtype)
        reached = before(jnp.full_like(t, begin))
        after = between(reached, swa_value, t - begin, length, anneal)
        return jnp.where(t < begin, before(t), after)

    return Schedule(value)
