"""Square roots that differentiate at zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_jvp
def safe_sqrt(x: Array) -> Array:
    """√x, bit for bit, with derivative 0 at 0 where calculus says ∞.

    Rules take √ν of entries that never had a gradient. Differentiating through such a rule
    multiplies that root's derivative by the 0 that caused it, and ∞·0 is NaN.

    >>> import jax
    >>> float(jax.grad(lambda g: safe_sqrt(g * g))(0.0))
    0.0
    """
    return jax.lax.sqrt(x)


@safe_sqrt.defjvp
def _derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y = safe_sqrt(x)
    at_zero = y == 0
    return y, jnp.where(at_zero, 0, dx / (2 * jnp.where(at_zero, 1, y)))
