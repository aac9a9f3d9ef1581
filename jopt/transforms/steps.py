"""From a direction to a step: weight decay and the learning rate, as links of a chain."""

from __future__ import annotations

from typing import Any, Unpack

from jopt.core import Common, Hyper, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, RATE

DECAYED = Spec("add_decayed_weights", (DECAY,), steps=False, needs_params=True, elementwise=True)
SCALED = Spec("scale_by_learning_rate", (RATE,), gives="direction", params_by=(), elementwise=True)

TIMES = Spec("scale", (Hyper("step_size"),), steps=False, elementwise=True)


def decayed(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `add_decayed_weights`."""
    return g + h.weight_decay * p, {}


def scaled(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `scale_by_learning_rate`."""
    return g, {}


def times(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `scale`."""
    return h.step_size * g, {}


@optimizer(DECAYED, decayed)
def add_decayed_weights(weight_decay: Value = 0.0, **common: Unpack[Common]) -> None:
    """g ← g + λ·p.

    Before an optimizer that is coupled weight decay; between a direction and the learning rate,
    decoupled.

    **Arguments:** `weight_decay`: λ ≥ 0, a number or a schedule; `**common`: see `jopt.Common`,
    whose `groups` say which leaves decay.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.add_decayed_weights(0.5), {"w": jnp.float32(2.0)}
    >>> tx.update({"w": jnp.float32(1.0)}, tx.init(params), params)[0]
    {'w': Array(2., dtype=float32)}
    """


@optimizer(SCALED, scaled)
def scale_by_learning_rate(learning_rate: Value, **common: Unpack[Common]) -> None:
    """The step −η·d, where what came before gives d.

    **Arguments:** `learning_rate`: η ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.scale_by_learning_rate(0.5), {"w": jnp.float32(2.0)}
    >>> tx.update({"w": jnp.float32(1.0)}, tx.init(params), params)[0]
    {'w': Array(-0.5, dtype=float32)}
    """


@optimizer(TIMES, times)
def scale(step_size: Value, **common: Unpack[Common]) -> None:
    """g ← c·g.

    With a schedule for c it is what optax calls `scale_by_schedule`. A step is
    `scale_by_learning_rate`, whose number has the sign of a rate.

    **Arguments:** `step_size`: c, of either sign, a number or a schedule; `**common`: see
    `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.scale(-2.0), {"w": jnp.float32(1.5)}
    >>> tx.update(grads, tx.init(grads))[0]
    {'w': Array(-3., dtype=float32)}
    """
