"""What rules that set their own step size hold of the problem: a distance, a lower bound."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def longer(distance: Array, numerator: Array, length: Array) -> Array:
    """The larger of d and the estimate numerator / length, where that is a number at all."""
    found = numerator / jnp.where(length > 0, length, 1)
    return jnp.where((found > distance) & (length > 0) & jnp.isfinite(found), found, distance)


def met(bound: Array, cap: Array, share: Array, least: Array) -> Array:
    """MoMo's lower bound f of the loss; cap / (2·share) in its place if share·f is above cap.

    It never falls below `least`.
    """
    lower = jnp.maximum(cap / (2 * share), least)
    return jnp.where(cap < share * bound, lower, bound)
