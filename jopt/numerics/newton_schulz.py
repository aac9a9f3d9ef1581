"""Orthogonalising matrices by Newton-Schulz iteration."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jopt.numerics.dtypes import compute_dtype
from jopt.numerics.roots import safe_sqrt


def newton_schulz(
    x: Array,
    coefficients: Sequence[float],
    steps: int,
    eps: Array | float,
    dtype: DTypeLike = jnp.bfloat16,
) -> Array:
    """Matrices near U·Vᵀ for each matrix U·S·Vᵀ of a batch, with singular values around one.

    X ← X / max(‖X‖_F, ε), then `steps` times

        A ← X·Xᵀ
        X ← a·X + (b·A + c·A²)·X

    **Arguments:**

    - `x`: shape `(k, m, n)` with m ≤ n, so that A is the smaller of the two Gram matrices.
    - `coefficients`: (a, b, c). With Jordan's (3.4445, −4.7750, 2.0315) the singular values end
      between 0.68 and 1.13, not at one: the slope at zero is made steep instead.
    - `dtype`: that of X and A between products; products accumulate in at least float32.

    Source: Jordan et al., 2024, "Muon"; Bernstein and Newhouse, 2024.
    """
    a, b, c = coefficients
    wide = compute_dtype(dtype)
    bits = jnp.finfo(dtype)

    def rounded(y: Array) -> Array:
        # To `dtype` and back. A plain pair of casts XLA may drop, as excess precision.
        return jax.lax.reduce_precision(y, bits.nexp, bits.nmant)

    x = x.astype(dtype)
    norm = safe_sqrt(jnp.sum(jnp.square(x.astype(wide)), axis=(-2, -1), keepdims=True))
    norm = rounded(jnp.maximum(rounded(norm), jnp.asarray(eps, wide)))
    x = (x.astype(wide) / norm).astype(dtype)

    def product(p: Array, q: Array, contract: int) -> Array:
        dot = functools.partial(
            jax.lax.dot_general,
            dimension_numbers=(((2,), (contract,)), ((0,), (0,))),
            preferred_element_type=wide,
        )
        # XLA's CPU backend has no bfloat16 product for some layouts and fails at run time; the
        # product of widened operands is the same numbers, for each term is exact in float32.
        found: Array = jax.lax.platform_dependent(
            p, q, cpu=lambda p, q: dot(p.astype(wide), q.astype(wide)), default=dot
        )
        return found

    for _ in range(steps):
        gram = rounded(product(x, x, 2))
        poly = b * gram + c * product(gram.astype(dtype), gram.astype(dtype), 1)
        x = rounded(a * x.astype(wide) + product(poly.astype(dtype), x, 1)).astype(dtype)
    return x
