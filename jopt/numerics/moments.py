"""Running averages and their bias corrections."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jopt.numerics.roots import safe_sqrt


class Ratio(NamedTuple):
    """A direction that is a quotient, not divided yet: torch multiplies by the learning rate first.

    A step that ends in a quotient is the same, bit for bit, in all programs. Of a product in a
    sum compilers may skip the rounding, and in which program they do is theirs to choose.
    """

    over: Array
    under: Array

    def times(self, factor: Array) -> Array:
        """factor·over / under."""
        return factor * self.over / self.under

    @property
    def value(self) -> Array:
        """over / under."""
        return self.over / self.under


def lerp(a: Array, b: Array, weight: Array) -> Array:
    """a + weight·(b − a), from the nearer end, as torch: a weight of 1 gives b, digit for digit."""
    near = weight < 0.5
    return jnp.where(near, a, b) + jnp.where(near, weight, weight - 1) * (b - a)


def debias(decay: Array, t: Array) -> Array:
    """1 − decayᵗ, as −expm1(t·log decay).

    In float32 the direct form loses five digits at t = 1 for decay = 0.999; this one none.
    """
    return -jnp.expm1(t * jnp.log(decay))


def adam_moments(g: Array, mu: Array, nu: Array, b1: Array, b2: Array) -> tuple[Array, Array]:
    """Adam's running means of g and of g²: μ + (1 − β₁)(g − μ) and β₂·ν + (1 − β₂)·g²."""
    return lerp(mu, g, 1 - b1), b2 * nu + (1 - b2) * jnp.square(g)


def adam_corrections(b1: Array, b2: Array, t: Array) -> dict[str, Array]:
    """The factors that undo both moments' bias: k₁ = 1 / (1 − β₁ᵗ) and k₂ = 1 / √(1 − β₂ᵗ).

    Factors, because XLA would turn a division by a scalar into a kernel for its reciprocal
    and a product, once for every leaf.
    """
    return {"k1": 1 / debias(b1, t), "k2": 1 / jnp.sqrt(debias(b2, t))}


def adam_direction(mu: Array, nu: Array, eps: Array, k1: Array, k2: Array) -> Ratio:
    """k₁·μ / (k₂·√ν + ε)."""
    return Ratio(k1 * mu, k2 * safe_sqrt(nu) + eps)
