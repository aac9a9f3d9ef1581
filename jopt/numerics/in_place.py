"""Newton-Schulz on a matrix of which each device has some columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jopt.numerics.dtypes import compute_dtype
from jopt.numerics.newton_schulz import each_step
from jopt.numerics.roots import safe_sqrt
from jopt.numerics.scales import power_below


def newton_schulz_in_place(
    x: Array,
    coefficients: Sequence[Any],
    steps: int,
    eps: Array | float,
    dtype: DTypeLike,
    over: tuple[str, ...],
) -> Array:
    """`newton_schulz` of matrices whose columns lie over these mesh axes, within `shard_map`.

    Every step multiplies X from the left by a polynomial P = a·I + b·A + c·A² of A = X·Xᵀ, and the
    next one's A is P·A·P. So one sum over the devices, of A, is all that they need of each other,
    and X itself is multiplied once, by the product W of all P:

        A ← X·Xᵀ / max(‖X‖_F, ε)²,  W ← I / max(‖X‖_F, ε),  and each step  W ← P·W,  A ← P·A·P

    A and W are in at least float32, and W is rounded to `dtype` once.

    **Arguments:** as those of `newton_schulz`; `x`: shape `(k, m, n)`, this device's n columns.
    """
    wide = compute_dtype(dtype)
    x = x.astype(dtype)
    most = jax.lax.pmax(jnp.max(jnp.abs(x), (1, 2), keepdims=True).astype(wide), over)
    by = power_below(most)  # so that no square leaves the range
    x = (x.astype(wide) / by).astype(dtype)
    gram = jax.lax.psum(_product(x, x.mT, wide), over)
    norm = safe_sqrt(jnp.trace(gram, axis1=1, axis2=2)[:, None, None])
    least = jnp.maximum(norm, jnp.asarray(eps, wide) / by)
    identity = jnp.eye(x.shape[1], dtype=wide)[None]
    gram, total = gram / (least * least), identity / least
    for a, b, c in each_step(coefficients, steps):
        poly = a * identity + b * gram + c * _product(gram, gram, wide)
        total = _product(poly, total, wide)
        gram = _product(poly, _product(gram, poly, wide), wide)
    return _product(total.astype(dtype), x, wide)


def _product(p: Array, q: Array, wide: Any) -> Array:
    # As in `newton_schulz`, for XLA's CPU backend; elsewhere float32 products are not to be less.
    def plainly(p: Array, q: Array) -> Array:
        made: Array = jnp.matmul(p, q, precision="highest", preferred_element_type=wide)
        return made

    found: Array = jax.lax.platform_dependent(
        p, q, cpu=lambda p, q: plainly(p.astype(wide), q.astype(wide)), default=plainly
    )
    return found
