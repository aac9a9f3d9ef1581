"""Norms over one array or many."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import as_pairs, compute_dtype
from jopt.numerics.roots import safe_sqrt


def sum_of_squares(x: Array) -> Array:
    """∑|xᵢ|², in at least float32; a complex entry counts |x|²."""
    x = as_pairs(x.astype(compute_dtype(x.dtype)))
    return jnp.sum(jnp.square(x))


def norm(x: Array) -> Array:
    """‖x‖₂ over every entry, in at least float32."""
    return safe_sqrt(sum_of_squares(x))


def global_norm(xs: Sequence[Array]) -> Array:
    """‖(x₁, x₂, …)‖₂ over every entry of every array, in at least float32; 0 for no arrays."""
    if not xs:
        return jnp.zeros(())
    return safe_sqrt(functools.reduce(operator.add, [sum_of_squares(x) for x in xs]))
