"""Running sums and means of what passes: momentum as a link of a chain."""

from __future__ import annotations

from typing import Any, Unpack

from jopt.core import Common, Hyper, Slot, Spec, Value, optimizer
from jopt.numerics import debias as bias
from jopt.numerics import lerp

TRACE = Spec(
    "trace",
    (Hyper("decay", "[0, 1]"),),
    (Slot("momentum_buffer"),),
    options={"nesterov": None},
    steps=False,
    elementwise=True,
)
MEAN = Spec(
    "average_updates",
    (Hyper("decay", "[0, 1)"),),
    (Slot("mu"),),
    options={"debias": None},
    counts=lambda on: bool(on["debias"]),
    steps=False,
    elementwise=True,
)


def traced(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `trace`."""
    kept = g + h.decay * s.momentum_buffer
    return g + h.decay * kept if h.nesterov else kept, {"momentum_buffer": kept}


def prepare(h: Any) -> dict[str, Any]:
    """What undoes the bias towards the start from 0, as a factor."""
    return {"k": 1 / bias(h.decay, h.t)} if h.debias else {}


def averaged(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `average_updates`."""
    mu = lerp(s.mu, g, 1 - h.decay)
    return h.k * mu if h.debias else mu, {"mu": mu}


@optimizer(TRACE, traced)
def trace(decay: Value, *, nesterov: bool = False, **common: Unpack[Common]) -> None:
    """m ← g + d·m in place of g; with Nesterov's look ahead g + d·m, of the new m.

    Before `scale_by_learning_rate` it is the momentum of `jopt.sgd`.

    **Arguments:** `decay`: d in [0, 1], a number or a schedule; `nesterov`; `**common`: see
    `jopt.Common`.

    **State:** `momentum_buffer`: m, like the parameters.

    >>> import jax.numpy as jnp, jopt
    >>> tx, g = jopt.trace(0.5), {"w": jnp.float32(1.0)}
    >>> _, state = tx.update(g, tx.init(g))
    >>> tx.update(g, state)[0]
    {'w': Array(1.5, dtype=float32)}
    """


@optimizer(MEAN, averaged, prepare=prepare)
def average_updates(decay: Value, *, debias: bool = True, **common: Unpack[Common]) -> None:
    """m ← d·m + (1 − d)·g, and m / (1 − dᵗ) in place of g: a running mean of what passes.

    Not of the parameters, which `jopt.ema` averages: this one is optax's `ema`.

    **Arguments:** `decay`: d in [0, 1), a number or a schedule; `debias`: whether to divide;
    `**common`: see `jopt.Common`.

    **State:** `mu`: m, like the parameters; with `debias` the step count.

    >>> import jax.numpy as jnp, jopt
    >>> tx, g = jopt.average_updates(0.5), {"w": jnp.float32(1.0)}
    >>> _, state = tx.update(g, tx.init(g))
    >>> tx.update({"w": jnp.float32(4.0)}, state)[0]
    {'w': Array(3., dtype=float32)}
    """
