"""What rules that set their own step size hold of the problem: a distance, a lower bound."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import cast


def longer(distance: Array, numerator: Array, length: Array) -> Array:
    """The larger of d and the estimate numerator / length, where that is a number at all."""
    found = numerator / jnp.where(length > 0, length, 1)
    return jnp.where((found > distance) & (length > 0) & jnp.isfinite(found), found, distance)


def modelled(
    b: Array, means: tuple[Array, Array], loss: Array, met: Array, along: Array
) -> tuple[Array, Array, Array]:
    """MoMo's means of the loss and of g·p, and what the model that they make with μ is at p.

    v ← β·v + (1 − β)·f;  d ← β·d + (1 − β)·g·p;  v − d + μ·p.  `met` is g·p, `along` μ·p.
    """
    value, dot = (b * cast(x, b.dtype) for x in means)
    value, dot = value + (1 - b) * loss, dot + (1 - b) * cast(met, b.dtype)
    return value, dot, value - dot + cast(along, b.dtype)


def above(held: Array | None, cap: Array, share: Array, least: Array) -> tuple[Array, Array]:
    """MoMo's lower bound f of the loss, and how far cap lies above share·f, at least 0.

    The bound is `held`, and cap / (2·share), never below `least`, if share·f is above cap; without
    one it is `least`.
    """
    bound = least
    if held is not None:
        held = cast(held, cap.dtype)
        bound = jnp.where(cap < share * held, jnp.maximum(cap / (2 * share), least), held)
    return bound, jnp.maximum(cap - share * bound, 0)
