"""Estimates of the diagonal of a Hessian, from products with it or from gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def hutchinson(
    function: Callable[..., Array], at: Sequence[Array], along: Sequence[Array]
) -> list[Array]:
    """u·(∇²f·u), entry by entry: the diagonal on average over u with mean 0 and covariance 1."""
    _, product = jax.jvp(jax.grad(function), ([*at],), ([*along],))
    return [u * x for u, x in zip(along, product, strict=True)]


def squared_slopes(function: Callable[..., Array], at: Sequence[Array], key: Any) -> list[Array]:
    """(∇f̂)²: a B-th of Gauss and Newton's diagonal on average, if f̂ is the mean over B labels."""
    return [jnp.square(x) for x in jax.grad(lambda x: function(x, key))([*at])]
