"""A fixed norm in place of decay."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import ConfigError, configured
from jopt.core import Slot, Spec, Transform
from jopt.core.stage import Stage
from jopt.core.staged import staged
from jopt.numerics import norm

SPEC = Spec(
    "hyperball",
    slots=(Slot("radius", "scalar", init=norm, compress=False, signed=False),),
    steps=False,
    needs_params=True,
)


def sized(d: Any, at: Any, h: Any) -> Any:
    """The direction, as long as the parameter is; see `hyperball`."""
    size, radius = norm(d), at.s.radius
    found = radius / jnp.where(size == 0, 1, size)
    return d * jnp.where(radius == 0, jnp.ones_like(found), found)


def projected(p_new: Any, at: Any, h: Any) -> Any:
    """The new parameter, on its sphere; see `hyperball`."""
    size, radius = norm(p_new), at.s.radius
    free = (radius == 0) | (size == 0)
    found = radius / jnp.where(free, 1, size)
    return p_new * jnp.where(free, jnp.ones_like(found), found)


RELATIVE = Stage(SPEC, (("relative", True),), direction=sized, parameter=projected, ends_decay=True)
PROJECTED = Stage(SPEC, (("relative", False),), parameter=projected, ends_decay=True)


@configured("jopt.")
def hyperball(tx: Transform, *, relative: bool = True) -> Transform:
    """Keep each leaf at the norm that it began with, in place of weight decay.

    With d the direction of an optimizer, η the learning rate and R = ‖p₀‖ of the leaf:

        d ← R·d / ‖d‖                 if relative
        p ← p − η·d
        p ← R·p / ‖p‖

    So η is the angle of a step, nearly, and nothing is left for decay to do: `weight_decay` leaves
    the optimizer's state, and what it was makes no difference. Projected is the parameter as
    computed; rounding one of 16 bits moves it off the sphere again, and the next step back.

    A leaf that begins at zero has no sphere, and steps as without. Scales and biases want none
    either: use it for matrices, as in `jopt.route(jopt.adamw(1e-3), matrices=("kernel$",
    jopt.hyperball(jopt.muon(0.02))))`.

    **Arguments:**

    - `tx`: an optimizer, or a chain or wrapper with one; of a chain the last one.
    - `relative`: whether the step, too, has its length from R, as published.

    **State:** `radius` beside the optimizer's slots, one number for each leaf, or each tensor of
    one by the optimizer's `axes`: R.

    **Raises:** `ConfigError` where there is no optimizer, or one whose step is its own.

    Source: Wen, Dang, Lyu, Ma and Liang, 2025, "From weight decay to hyperball optimization",
    the first equation.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.hyperball(jopt.sgd(1.0))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> updates, state = tx.update({"w": jnp.array([0.0, 0.1])}, tx.init(params), params)
    >>> jnp.round(jopt.apply_updates(params, updates)["w"], 4), state["sgd"]["radius"]
    (Array([ 4.7434, -1.5811], dtype=float32), {'w': Array(5., dtype=float32)})
    """
    if not isinstance(relative, bool):
        raise ConfigError(
            "hyperball",
            "relative is yes or no",
            expected="True or False",
            found=repr(relative),
        )
    return staged(tx, RELATIVE if relative else PROJECTED)
