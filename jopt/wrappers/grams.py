"""The sign of the gradient, the size of the direction."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Spec, Transform
from jopt.core.stage import Stage
from jopt.core.staged import staged

SPEC = Spec("grams", steps=False, elementwise=True)


def turned(d: Any, at: Any, h: Any) -> Any:
    """See `grams`."""
    return jnp.sign(at.g) * jnp.abs(d)


STAGE = Stage(SPEC, direction=turned, after_rule=True, reads_gradient=True)


@configured("jopt.")
def grams(tx: Transform) -> Transform:
    """Step against the gradient's sign, as far as the optimizer would.

    With d the direction of an optimizer and g the gradient that it got:

        d ← sign(g)·|d|, entry by entry

    g is the gradient before coupled decay and after `maximize`; where it is 0, so is d. Of complex
    numbers each part has its own sign. Decoupled decay acts beside it, as without. Of an optimizer
    whose step has the learning rate in it, such as `adafactor`, it is the step that turns.

    **Arguments:** `tx`: an optimizer, or a chain or wrapper with one; of a chain the last one.

    **Raises:** `ConfigError` where there is no optimizer, or one whose step is its own.

    Source: Cao, Li and Song, 2024, "Grams: gradient descent with adaptive momentum scaling",
    definition of the update.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.grams(jopt.sgd(1.0, momentum=0.5))
    >>> params = {"w": jnp.zeros(2)}
    >>> _, state = tx.update({"w": jnp.array([1.0, 1.0])}, tx.init(params), params)
    >>> tx.update({"w": jnp.array([1.0, -0.25])}, state, params)[0]
    {'w': Array([-1.5 ,  0.25], dtype=float32)}
    """
    return staged(tx, STAGE)
