"""Triangles, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from jopt.schedules.scaled import check_traceable
from jopt.schedules.schedule import Schedule, schedule
from jopt.schedules.shapes import check, check_choice, power

Mode = Literal["triangular", "triangular2", "exp_range"]
"""How the height of the cycles goes on."""
Scale = Callable[[Any], Any]
"""The height of a cycle by its number."""


@schedule
def cyclic(
    base_value: float,
    max_value: float,
    steps_up: int = 2000,
    steps_down: int | None = None,
    mode: Mode = "triangular",
    gamma: float = 1.0,
    scale_fn: Scale | None = None,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
) -> Schedule:
    """base + (max − base)·h(t)·k(t), as torch's `CyclicLR`.

    h climbs from 0 to 1 over `steps_up`, falls back over `steps_down`, and starts anew. The
    scale k is 1 (`"triangular"`), 1, ½, ¼, ... for the first, second, third cycle
    (`"triangular2"`), or γᵗ (`"exp_range"`).

    **Arguments** (defaults are torch's):

    - `base_value`, `max_value`: the foot and, where k is 1, the tip.
    - `steps_up` ≥ 1, `steps_down` ≥ 0; `None`: as many as up.
    - `mode`, `gamma`: see above; γ is for `"exp_range"`.
    - `scale_fn`: your own k instead, traceable by jax: a function of the cycle, from 1, or of the
      step, as `scale_mode` says: `"cycle"` or `"iterations"`.

    `cyclic_momentum` is what torch lets a momentum do meanwhile.

    **Raises:** `ConfigError` for an unknown mode, or a `scale_fn` that jax cannot trace.

    Source: Smith, 2017, section 3.1.

    >>> [round(float(cyclic(0.0, 1.0, 2, mode="triangular2")(t)), 6) for t in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.0, 0.5]
    """
    height = _height("cyclic", steps_up, steps_down, mode, gamma, scale_fn, scale_mode)
    return Schedule(lambda t: base_value + (max_value - base_value) * height(t))


@schedule
def cyclic_momentum(
    *,
    base_value: float = 0.8,
    max_value: float = 0.9,
    steps_up: int = 2000,
    steps_down: int | None = None,
    mode: Mode = "triangular",
    gamma: float = 1.0,
    scale_fn: Scale | None = None,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
) -> Schedule:
    """max − (max − base)·h(t)·k(t): high where `cyclic` is low. Torch's `cycle_momentum=True`.

    Give it to `momentum=` or `b1=`, with the arguments of the rate's `cyclic`.

    >>> [round(float(cyclic_momentum(steps_up=2)(t)), 6) for t in (0, 1, 2, 4)]
    [0.9, 0.85, 0.8, 0.9]
    """
    height = _height("cyclic_momentum", steps_up, steps_down, mode, gamma, scale_fn, scale_mode)
    return Schedule(lambda t: max_value - (max_value - base_value) * height(t))


def _height(
    who: str,
    up: int,
    steps_down: int | None,
    mode: str,
    gamma: float,
    scale_fn: Scale | None,
    scale_mode: str,
) -> Callable[[Array], Array]:
    """h(t)·k(t)."""
    down = up if steps_down is None else steps_down
    (rise,) = check(who, steps_up=up)
    (fall,) = check(who, 0, steps_down=down)
    check_choice(who, "scale_mode", scale_mode, ("cycle", "iterations"))
    if scale_fn is None:
        check_choice(who, "mode", mode, ("triangular", "triangular2", "exp_range"))
    else:
        check_traceable(who, "scale_fn", scale_fn)
    total = rise + fall

    def scale(t: Array, cycle: Array) -> Any:
        if scale_fn is not None:
            return jnp.asarray(scale_fn(cycle + 1 if scale_mode == "cycle" else t)).astype(t.dtype)
        if mode == "triangular2":
            return power(0.5, cycle)
        return power(gamma, t) if mode == "exp_range" else 1.0

    def height(t: Array) -> Array:
        within = jnp.mod(t, total)
        cycle = jnp.round((t - within) / total)
        h = jnp.where(within <= rise, within / rise, (total - within) / max(fall, 1.0))
        return jnp.asarray(h * scale(t, cycle))

    return height
