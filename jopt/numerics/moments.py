"""Running averages and their bias corrections."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Ratio(NamedTuple):
    """A direction that is a quotient, not divided yet: torch multiplies by the learning rate first.

    A step that ends in a quotient is the same, bit for bit, in all programs. Of a product in a
    sum compilers may skip the rounding, and in which program they do is theirs to choose.
    """

    over: Array
    under: Array
    by: Array | None = None
    """A number that `over` is to be multiplied by, so that it is with the learning rate at once."""

    def times(self, factor: Array) -> Array:
        """factor·by·over / under."""
        return (factor if self.by is None else factor * self.by) * self.over / self.under

    @property
    def value(self) -> Array:
        """by·over / under."""
        return (self.over if self.by is None else self.by * self.over) / self.under


def lerp(a: Array, b: Array, weight: Array) -> Array:
    """a + weight·(b − a), from the nearer end, as torch: a weight of 1 gives b, digit for digit."""
    near = weight < 0.5
    return jnp.where(near, a, b) + jnp.where(near, weight, weight - 1) * (b - a)


def share_of(decay: Array) -> Array:
    """For `lerp_by` with the weight 1 − decay: how far that is from the nearer end, below 0 from b.

    A decay below 1. Of (1 − decay) − 1 XLA makes −decay, and goes over all of a program once more.
    """
    return jnp.where(decay > 0.5, 1 - decay, -decay)


def lerp_by(a: Array, b: Array, share: Array) -> Array:
    """`lerp` by what `share_of` gives: what depends on numbers alone is made once for all leaves.

    A rule makes it for every leaf, and a GPU in a kernel of its own for some of them.
    """
    from_near = jax.lax.select(share > 0, a, b)  # by primitives: what every leaf takes is traced
    return jax.lax.add(from_near, jax.lax.mul(share, jax.lax.sub(b, a)))


def debias(decay: Array, t: Array) -> Array:
    """1 − decayᵗ, as −expm1(t·log decay).

    In float32 the direct form loses five digits at t = 1 for decay = 0.999; this one none.
    """
    return -jnp.expm1(t * jnp.log(decay))


def in_place(new: Array, old: Array, surely: Array) -> Array:
    """`new`, where `surely`, which always is so and which no compiler sees.

    For a slot that takes no part in its own next value, such as the last gradient. XLA writes a
    buffer over another in the kernel that reads it only if each entry depends on that of the old;
    else it makes a copy, in a kernel of its own for every leaf.
    """
    return jnp.where(surely, new, old)
