"""Schedules at the pace of torch's schedulers, which step when their owner calls them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, configured
from jopt.interop._given import count, number
from jopt.schedules import Plateau, Schedule
from jopt.schedules.shapes import as_function, check


@configured("jopt.interop.torch.")
def paced(schedule: Any, *, every: int = 1, shift: int = 0) -> Schedule:
    """schedule(⌊(t + shift) / every⌋): one step of a schedule for `every` steps of the optimizer.

    As in torch, where `scheduler.step()` is called once per epoch.

    **Arguments:** `schedule`: a schedule, a function of the step, or a number; `every` ≥ 1;
    `shift`: any whole number: how many of the optimizer's steps came before step 0.

    **Raises:** `ConfigError` for a schedule with a memory, such as a plateau.

    >>> from jopt.schedules import exponential
    >>> [float(paced(exponential(1.0, 0.5), every=2, shift=1)(t)) for t in range(4)]
    [1.0, 0.5, 0.5, 0.25]
    """
    (pace,) = check("paced", every=every)
    if isinstance(shift, bool) or not isinstance(shift, int):
        raise ConfigError("paced", "shift is a whole number", found=repr(shift))
    inner, before = as_function("paced", schedule), float(shift)

    def value(t: Array) -> Array:
        moved = jnp.maximum(t + before, 0)
        # The remainder is exact, where a quotient just below a whole number may round up to it.
        return inner(jnp.round((moved - jnp.mod(moved, pace)) / pace))

    return Schedule(value)


class _Resumed(Plateau):
    def __init__(self, plateau: Plateau, memory: dict[str, Any]) -> None:
        super().__init__(**plateau._is)
        self._memory = memory

    def init(self) -> dict[str, Any]:
        fresh = super().init()
        kept = {k: jnp.asarray(v, fresh[k].dtype) for k, v in self._memory.items()}
        return {**fresh, **kept}


@configured("jopt.interop.torch.")
def resumed(
    plateau: Plateau, *, value: float, best: float, bad: int = 0, cooldown: int = 0
) -> Plateau:
    """A plateau that goes on from a memory: `tx.init` puts that one into the state.

    **Arguments:** `plateau`: from `jopt.schedules.plateau`; `value`: the number in force; `best`:
    the best metric so far; `bad`: how many metrics since then were no better; `cooldown`: for
    how many more they do not count.

    >>> import jopt
    >>> memory = resumed(jopt.schedules.plateau(0.1), value=0.01, best=2.0, bad=3).init()
    >>> float(memory["best"]), int(memory["bad"]), int(memory["cooldown"])
    (2.0, 3, 0)
    """
    if not isinstance(plateau, Plateau):
        raise ConfigError("resumed", "only a plateau has a memory", found=repr(plateau))
    for name, given in (("value", value), ("best", best)):
        number("resumed", name, given, finite=False)
    for name, given in (("bad", bad), ("cooldown", cooldown)):
        count("resumed", name, given)
    return _Resumed(plateau, {"value": value, "best": best, "bad": bad, "cooldown": cooldown})
