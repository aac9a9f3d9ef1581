"""Lists of arrays as one vector: inner products, norms and steps, without joining large arrays."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import real_dtype, widest
from jopt.numerics.explicit import laid, sharded, stacked
from jopt.numerics.pieces import in_pieces

Vector = list[Array]

TINY = 4_096
"""To read arrays of at most so many entries together is worth a copy: each is a kernel less."""


class Joint:
    """Which arrays of a vector are joined to be read: the tiny ones of a dtype, as one.

    **Arguments:**

    - `like`: the vector.
    """

    def __init__(self, like: Vector) -> None:
        tiny = [i for i, x in enumerate(like) if x.size <= TINY and not sharded(x)]
        dtypes = dict.fromkeys(like[i].dtype for i in tiny)
        self.tiny: list[list[int]] = [
            [i for i in tiny if like[i].dtype == dtype] for dtype in dtypes
        ]
        self.large: list[int] = [i for i in range(len(like)) if i not in set(tiny)]
        self.shapes: list[tuple[int, ...]] = [x.shape for x in like]

    def join(self, xs: Vector, rows: int = 0) -> Vector:
        """The same entries in fewer arrays; with `rows` axes before those of the vector."""
        flat = [[xs[i].reshape(*xs[i].shape[:rows], -1) for i in group] for group in self.tiny]
        return [xs[i] for i in self.large] + [jnp.concatenate(group, axis=rows) for group in flat]

    def part(self, xs: Vector) -> Vector:
        """The reverse of `join`."""
        parts = dict(zip(self.large, xs, strict=False))
        for group, x in zip(self.tiny, xs[len(self.large) :], strict=True):
            ends = itertools.accumulate(math.prod(self.shapes[i]) for i in group)
            for i, piece in zip(group, jnp.split(x, [*ends][:-1]), strict=True):
                parts[i] = piece.reshape(self.shapes[i])
        return [parts[i] for i in range(len(self.shapes))]


def in_one_array(*numbers: Array) -> list[Array]:
    """The same numbers, read from one array: XLA joins the kernels of arrays of one shape then.

    It does so for those that read an array in common; a number in common is not enough.
    """
    return [*jax.lax.optimization_barrier(stacked(numbers))]


def vector_dot(x: Vector, y: Vector) -> Array:
    """x·y."""
    joint = Joint(x)
    pairs = zip(joint.join(x), joint.join(y), strict=True)
    return _reduced([a * b for a, b in pairs], lambda product: product, jnp.sum)


def vector_l1(x: Vector) -> Array:
    """‖x‖₁."""
    return _reduced(Joint(x).join(x), jnp.abs, jnp.sum)


def vector_max(x: Vector) -> Array:
    """max|xᵢ|; 0 if there are no entries, NaN if one is NaN. It has no derivative."""
    # The maximum of the bits, which order as magnitudes do, with NaN above infinity: XLA's own
    # of numbers passes over NaN in large arrays on the CPU. Without a sign they fit signed
    # integers, which every backend compares natively.
    wide = real_dtype(widest(*(a.dtype for a in x)))
    integer = jnp.dtype(f"int{jnp.finfo(wide).bits}")

    def magnitude(a: Array) -> Array:
        bits = jax.lax.bitcast_convert_type(jnp.abs(a), integer)
        return bits & jnp.iinfo(integer).max  # a NaN may have kept its sign

    largest = _reduced(Joint(x).join(x), magnitude, functools.partial(jnp.max, initial=0))
    return jax.lax.bitcast_convert_type(largest, wide)


def vector_within(x: Vector, bound: Array) -> Array:
    """Whether all |xᵢ| ≤ bound; NaN is not."""
    limit = bound.astype(real_dtype(widest(*(a.dtype for a in x))))
    return _reduced(Joint(x).join(x), lambda a: jnp.abs(a) <= limit, jnp.all)


def _reduced(x: Vector, each: Callable[[Array], Array], over: Callable[..., Array]) -> Array:
    # Arrays may differ in dtype: what is computed of all of them has the widest.
    wide = widest(*(a.dtype for a in x))
    (found,) = in_pieces([(a.astype(wide),) for a in x], [each], over)
    return found


def vector_step(x: Vector, t: Array, d: Vector) -> Vector:
    """x + t·d."""
    return [a + t.astype(a.dtype) * b for a, b in zip(x, d, strict=True)]


def row_dots(rows: Vector, x: Vector) -> Array:
    """The inner product of `x` with each of m rows, for rows of shape (m, *xᵢ.shape)."""
    # The numbers agree to rounding. A CPU is ten times faster at the contraction; a GPU makes
    # three kernels of each, where pieces cost one.
    dots: Array = jax.lax.platform_dependent(
        rows, x, cpu=row_dots_whole, default=row_dots_in_pieces
    )
    return dots


def row_dots_whole(rows: Vector, x: Vector) -> Array:
    """`row_dots`, as one contraction an array."""

    def one(r: Array, a: Array) -> Array:
        over = tuple(range(1, r.ndim)), tuple(range(a.ndim))
        return jax.lax.dot_general(
            r,
            a,
            (over, ((), ())),
            precision=jax.lax.Precision.HIGHEST,
            out_sharding=laid(a, None),
        )

    wide = widest(*(a.dtype for a in x))
    parts = [one(r, a).astype(wide) for r, a in zip(rows, x, strict=True)]
    return functools.reduce(operator.add, parts)


def row_dots_in_pieces(rows: Vector, x: Vector) -> Array:
    """`row_dots`, along each array's last axis first, then over all there is."""

    def one(r: Array, a: Array) -> Array:
        a = jnp.atleast_1d(a)
        return jnp.sum(r.reshape(len(r), *a.shape) * a[None], axis=-1).reshape(len(r), -1)

    wide = widest(*(a.dtype for a in x))
    pairs = [*zip(rows, x, strict=True)]
    pieces = [one(r, a).astype(wide) for r, a in pairs if not sharded(a)]
    parts = [row_dots_whole([r], [a]).astype(wide) for r, a in pairs if sharded(a)]
    if pieces:
        # The barrier keeps XLA from undoing it.
        joint = jax.lax.optimization_barrier(jnp.concatenate(pieces, axis=1))
        parts.append(jnp.sum(joint, axis=1))
    return functools.reduce(operator.add, parts)
