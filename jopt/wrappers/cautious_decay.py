"""Decay that spares what the step is about to enlarge."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Spec, Transform
from jopt.core.stage import Stage
from jopt.core.staged import staged

SPEC = Spec("cautious_decay", steps=False, elementwise=True)


def spared(share: Any, at: Any, h: Any) -> Any:
    """See `cautious_decay`."""
    return jnp.where(jnp.sign(at.d) * jnp.sign(at.p) >= 0, share, 0)


STAGE = Stage(SPEC, decay=spared, after_rule=True)


@configured("jopt.")
def cautious_decay(tx: Transform) -> Transform:
    """Decay a parameter only where the step moves it towards zero, too.

    With η the learning rate, λ the weight decay and d the direction:

        p ← p − η·d − η·λ·p·[d·p ≥ 0]

    or λ in place of η·λ with `decoupled="independent"`. d is what all other stages leave of it,
    in whatever order they are applied; one that takes the decay itself, `jopt.trust_ratio`, sees
    what is left of the decay.

    **Arguments:** `tx`: an optimizer with decoupled weight decay, or a chain or wrapper with one;
    of a chain the last one. There are no numbers beside `weight_decay`.

    **Raises:** `ConfigError` where there is no optimizer, or one without decay, with coupled
    decay, or whose update is its own.

    Source: Chen et al., 2025, "Cautious weight decay", algorithm 1.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.cautious_decay(jopt.sgd(1.0, weight_decay=0.5, decoupled=True))
    >>> params = {"w": jnp.array([1.0, 1.0])}
    >>> tx.update({"w": jnp.array([0.25, -0.25])}, tx.init(params), params)[0]
    {'w': Array([-0.75,  0.25], dtype=float32)}
    """
    return staged(tx, STAGE)
