"""Clipping gradients: by value, by the norm of each leaf, by the norm of all of them."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Common, Hyper, Spec, Transform, Value, leafwise, treewise
from jopt.core.side_by_side import TOGETHER, apart
from jopt.numerics import cast, global_norm, norm

BY_VALUE = Spec("clip_by_value", (Hyper("max_value", "[0, inf)"),), steps=False)
BY_NORM = Spec("clip_by_norm", (Hyper("max_norm", "[0, inf)"),), steps=False)
BY_GLOBAL_NORM = Spec("clip_by_global_norm", (Hyper("max_norm", "[0, inf)"),), steps=False)

# What torch's clip_grad_norm_ adds to the norm before it divides.
EPS = 1e-6


def _by_value(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    return jnp.clip(g, -h.max_value, h.max_value), {}


def _by_norm(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    return g * jnp.minimum(h.max_norm / (norm(g) + EPS), 1), {}


def _by_global_norm(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    # One scalar, then a product that XLA can fold into whatever reads it: the clipped
    # gradients need never be written out.
    scale = jnp.minimum(h.max_norm / (global_norm(g) + EPS), 1)
    scales = apart(scale, -(-len(g) // TOGETHER))
    # All in one dtype here. The primitive itself: jnp's product takes tracing ten times as long.
    return [jax.lax.mul(x, cast(scales[i // TOGETHER], x.dtype)) for i, x in enumerate(g)], {}


@configured("jopt.")
def clip_by_value(max_value: Value, **common: Unpack[Common]) -> Transform:
    """g ← min(max(g, −v), v), entry by entry, as torch's `clip_grad_value_`.

    Real and imaginary parts are clipped apart.

    **Arguments:** `max_value`: v ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.clip_by_value(1.0)
    >>> grads = {"w": jnp.array([-3.0, 0.5])}
    >>> tx.update(grads, tx.init(grads))[0]
    {'w': Array([-1. ,  0.5], dtype=float32)}
    """
    return leafwise(BY_VALUE, _by_value, max_value=max_value, **common)


@configured("jopt.")
def clip_by_norm(max_norm: Value, **common: Unpack[Common]) -> Transform:
    """g ← g·min(c / (‖g‖₂ + 10⁻⁶), 1), each leaf by its own norm.

    **Arguments:** `max_norm`: c ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.clip_by_norm(1.0)
    >>> grads = {"w": jnp.array([3.0, 4.0])}
    >>> tx.update(grads, tx.init(grads))[0]["w"].round(3)
    Array([0.6, 0.8], dtype=float32)
    """
    return leafwise(BY_NORM, _by_norm, max_norm=max_norm, **common)


@configured("jopt.")
def clip_by_global_norm(max_norm: Value, **common: Unpack[Common]) -> Transform:
    """g ← g·min(c / (‖(g₁, g₂, …)‖₂ + 10⁻⁶), 1), all leaves by one norm.

    As torch's `clip_grad_norm_`, the 10⁻⁶ included. With groups each group is clipped by its
    own norm; leaves that no group matches are together one group. Leaves whose gradient is
    `None`, and those of frozen groups, do not count. A norm that is not finite gives zeros
    and NaN: put `skip_nonfinite` around. Finite entries above 10¹⁹ overflow it, too.

    **Arguments:** `max_norm`: c ≥ 0, a number or a schedule; `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.clip_by_global_norm(1.0)
    >>> grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    >>> tx.update(grads, tx.init(grads))[0]["a"].round(3)
    Array([0.6], dtype=float32)
    """
    return treewise(BY_GLOBAL_NORM, _by_global_norm, max_norm=max_norm, **common)
