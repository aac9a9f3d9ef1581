"""Smaller steps where the gradient is larger than the optimizer remembers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Hyper, Spec, Transform, Value
from jopt.core.stage import Stage
from jopt.core.staged import staged
from jopt.core.vocabulary import B2, EPS, NU
from jopt.numerics import debias, norm, safe_sqrt

SPEC = Spec("stable", (Hyper("max_rms", "(0, inf)"),), steps=False)


def by_moment(d: Any, at: Any, h: Any) -> Any:
    """See `stable`: of an optimizer that keeps Adam's ν."""
    # Not ν / k, g²·k / ν: a scalar's reciprocal would be a kernel of its own for every leaf.
    k = debias(h.b2, h.t)
    under = jnp.maximum(at.s.nu, k * jnp.square(h.eps))
    ratio = at.seen / safe_sqrt(jnp.where(under > 0, under, 1))
    return _clipped(d, ratio, safe_sqrt(k), h)


def by_direction(d: Any, at: Any, h: Any) -> Any:
    """See `stable`: of any other optimizer."""
    return _clipped(d, d, 1, h)


def _clipped(d: Any, ratio: Any, factor: Any, h: Any) -> Any:
    rms = factor * norm(ratio) / max(ratio.size, 1) ** 0.5
    return d / jnp.maximum(1, rms / h.max_rms)


MOMENT = Stage(SPEC, direction=by_moment, takes_decay=True, reads_slots=True)
DIRECTION = Stage(SPEC, direction=by_direction)


def _fitted(spec: Spec) -> Stage:
    mine = NU in spec.slots and {B2.name, EPS.name} <= spec.by_name.keys()
    return MOMENT if mine and spec.counts is True else DIRECTION


@configured("jopt.")
def stable(tx: Transform, *, max_rms: Value = 1.0) -> Transform:
    """Divide a leaf's step by how far its gradient exceeds what the optimizer remembers of it.

    For an optimizer with Adam's mean of squares ν (`adam`, `adamw`, `nadam`, `radam`), with d its
    direction, g the gradient that went into ν, and ν̂ = ν / (1 − β₂ᵗ):

        r ← √(mean of g² / max(ν̂, ε²))
        d ← d / max(1, r / c)

    Decoupled decay is part of d here, as the paper multiplies both by the clipped rate. For any
    other optimizer r is the root of the mean of d², and decay is left alone: Adafactor's update
    clipping, and for RMSprop without momentum the same ratio, but for ε. Means are of a leaf, or
    of each tensor of one by the optimizer's `axes`, the parts of complex numbers being two.

    **Arguments:**

    - `tx`: an optimizer, or a chain or wrapper with one; of a chain the last one.
    - `max_rms`: c > 0, 1 in the paper; a number or a schedule, and in the optimizer's state.

    **Raises:** `ConfigError` where there is no optimizer; for one whose step is its own, and so for
    `adafactor`, which clips by itself.

    Source: Wortsman et al., 2023, "Stable and low-precision training for large-scale
    vision-language models", algorithm 2.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.stable(jopt.sgd(1.0))
    >>> params = {"w": jnp.zeros(4)}
    >>> tx.update({"w": jnp.full(4, 8.0)}, tx.init(params), params)[0]
    {'w': Array([-1., -1., -1., -1.], dtype=float32)}
    """
    return staged(tx, DIRECTION, fitted=_fitted, max_rms=max_rms)
