"""Fromage: steps as long as the parameter, which does not grow."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Hyper, Spec, Steps, Value, optimizer
from jopt.core.vocabulary import RATE
from jopt.numerics import trusted

SPEC = Spec(name="fromage", hypers=(RATE, Hyper("min_norm", "[0, inf)")), gives="step")


def prepare(h: Any) -> dict[str, Any]:
    """η / √(1 + η²), and 1 − 1 / √(1 + η²), of which a small η leaves no digits."""
    root = jnp.hypot(1.0, h.learning_rate)
    share = h.learning_rate / root
    return {"share": share, "shrink": share * h.learning_rate / (1 + root)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `fromage`."""
    d = trusted(g, p, g, low=h.min_norm, least=h.min_norm)
    return h.shrink * p + h.share * d, {}


@optimizer(SPEC, rule, prepare=prepare)
def fromage(
    learning_rate: Value = 1e-2,
    min_norm: Value = 1e-6,
    **common: Unpack[Steps],
) -> None:
    """Fromage: each parameter moves by η times its own norm, and is then shrunk by as much.

    With η the learning rate and m `min_norm`:

        p ← (p − η·max(‖p‖, m) / max(‖g‖, m)·g) / √(1 + η²)

    The norms are of a leaf, or of each tensor of one by `axes`. The division keeps a parameter
    from growing where its gradient is at right angles to it, as behind a normalization; it also
    acts without a gradient. Where one of the norms, at least m, is 0, g is taken as it is.

    **Arguments** (defaults are the paper's η and optax's m):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `min_norm`: m ≥ 0, the least that both norms count as. The paper has 0.
    - `**common`: `maximize`, `groups`, `state_dtype` and what else every optimizer takes, see
      `jopt.Steps`.

    **State:** none.

    **Raises:** `ConfigError` for a number out of range.

    Source: Bernstein, Vahdat, Yue and Liu, 2020, algorithm 1.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.fromage(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8955
    """
