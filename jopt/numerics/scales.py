"""A power of two times a function, so that products of its gradients are in range.

L-BFGS multiplies gradients with gradients. In float32 such products are infinite from 10¹⁹ on, and
lost below 10⁻¹⁹. Of c·f all that L-BFGS does is the same as of f, digit for digit, as long as c is
a power of two and nothing leaves the range.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import stacked
from jopt.numerics.vectors import Vector, vector_l1


class Scale(NamedTuple):
    """What a function and its gradients are multiplied `by`, and whether they are far out."""

    by: Array
    far: Array

    def of(self, x: Vector) -> Vector:
        """c·x."""
        return [a * self.by.astype(a.dtype) for a in x]

    def first_length(self, g: Vector) -> Array:
        """min(1, 1/‖g‖₁) for a step along −c·g, with a derivative where g is 0."""
        total = vector_l1(g)
        scaled = jnp.minimum(total, jnp.finfo(total.dtype).max) * self.by
        return 1 / jnp.maximum(scaled, self.by)

    def some(self) -> Scale:
        """A part of it: with it once more a product with what has none yet is in range."""
        least = 2.0 ** -(jnp.finfo(self.by.dtype).maxexp * 5 // 16)
        return self._replace(by=jnp.clip(self.by, least, 1))

    def fitting(self, value: Array) -> Scale:
        """The same, or a smaller one with which c·`value` is in range."""
        most = _bounds(value.dtype)[1] / power_below(jnp.abs(value))
        return self._replace(by=jnp.where(self.far, jnp.minimum(self.by, most), self.by))


def scale_for(g: Vector, sy: Array, yy: Array, pairs: Array, go: Array) -> Scale:
    """The scale for this gradient and these pairs, of sᵢ·yⱼ and yᵢ·yⱼ: nearly always 1.

    Not 1 if the gradient's own products leave the range, or those of the pairs have left it; 1
    unless `go`.
    """
    total = jax.lax.stop_gradient(vector_l1(g))
    size, top = sum(x.size for x in g), jnp.finfo(total.dtype).maxexp
    # The square of the sum is in range, and that of a hundred-thousandth of the mean, which a
    # difference of gradients may be.
    high = total > 2.0 ** (top * 7 // 16)
    low = (total > 0) & (total < size * 2.0 ** -(top * 5 // 16))
    far = go & (high | low | _lost(sy, yy, pairs))
    return Scale(jnp.where(far, 1 / power_below(total), 1), far)


def _lost(sy: Array, yy: Array, pairs: Array) -> Array:
    info: Any = jnp.finfo(yy.dtype)
    both = stacked([jnp.diagonal(sy), jnp.diagonal(yy)])
    kept = (both >= float(info.tiny) / float(info.eps)) & (both < jnp.inf)
    live = jnp.arange(yy.shape[0], dtype=pairs.dtype) < pairs
    return jnp.any(live[None] & ~kept)


def _bounds(dtype: Any) -> tuple[float, float]:
    top = jnp.finfo(dtype).maxexp
    return 2.0 ** -(top * 3 // 4), 2.0 ** (top - 8)


def power_below(x: Array) -> Array:
    """The largest power of two that is not above x ≥ 0, within `_bounds`."""
    integer = jnp.dtype(f"int{jnp.finfo(x.dtype).bits}")
    bits = jax.lax.bitcast_convert_type(x, integer)
    exponent = bits & jax.lax.bitcast_convert_type(jnp.asarray(jnp.inf, x.dtype), integer)
    return jnp.clip(jax.lax.bitcast_convert_type(exponent, x.dtype), *_bounds(x.dtype))
