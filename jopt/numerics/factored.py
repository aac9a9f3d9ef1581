"""Means over the axes of a matrix, for second moments kept as a row and a column."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.roots import safe_sqrt


def mean_along(x: Array, axis: int) -> Array:
    """The mean over one axis, which stays; 0 over an empty one."""
    return jnp.sum(x, axis, keepdims=True) / max(x.shape[axis], 1)


def kept_apart(x: Array) -> Array:
    """x, which no kernel makes that reduces it.

    A GPU's would write a slot elsewhere, to be copied to where the old one was. On a TPU it spares
    a kernel.
    """
    found: Array = jax.lax.platform_dependent(
        x, tpu=lambda x: x, default=jax.lax.optimization_barrier
    )
    return found


def rms(x: Array, one: Array) -> Array:
    """The root of the mean square; 0 for an empty array. `one`: a 1 that compilers cannot see."""
    # The numbers agree to rounding. A CPU would write down what `_by_rows` multiplies, and a TPU
    # runs no kernels together.
    total = jax.lax.platform_dependent(x, one, cpu=_at_once, tpu=_at_once, default=_by_rows)
    return safe_sqrt(total / max(x.size, 1))


def _at_once(x: Array, one: Array) -> Array:
    return jnp.sum(jnp.square(x))


def _by_rows(x: Array, one: Array) -> Array:
    # XLA runs the reductions of equal leaves in one kernel if they read an array in common, as
    # `one` is read from, see `side_by_side`.
    squares: Any = one * jnp.square(x)
    if x.ndim > 1:
        squares = one * jax.lax.optimization_barrier(jnp.sum(squares, -1))
    return jnp.sum(squares)
