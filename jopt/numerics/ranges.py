"""Sums of squares in range: those of numbers beyond 10¹⁹ or below 10⁻¹⁹ are no float32 numbers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import doubles
from jopt.numerics.dtypes import cast
from jopt.numerics.explicit import mapped_alike
from jopt.numerics.loops import while_loop
from jopt.numerics.pieces import BLOCKS, ROWS, Cut, Each

Arrays = Any
"""A tree of arrays."""

Sums = Callable[[Arrays, Sequence[Sequence[Each]], Cut], list[list[Array]]]
"""Sums over arrays in several ways, each of which says what is summed for each of the sums."""


def in_range(
    sums: Sums, xs: Arrays, sizes: Sequence[int], dtypes: Sequence[Any]
) -> tuple[list[Array], list[Array]]:
    """Factors, powers of two and nearly always 1, and the sums of the squares times their squares.

    Both as if one looked and, where a sum left the range, looked again. A CPU need not: it adds up
    float64 numbers, in whose range the squares of all float32 numbers are. That takes it half as
    long again; to look twice is twice as much to compile, whether it happens or not. Of float64
    numbers it does. What a GPU would launch for a second look that it hardly ever takes is a dozen
    kernels, and it has time for arithmetic while it reads: it makes the sums for all factors at
    once, and chooses.

    **Arguments:**

    - `sums`: makes sums of the squares of `xs`.
    - `sizes`: of how many squares each sum is; `dtypes`: of which dtype.
    """

    def twice(xs: Arrays) -> tuple[list[Array], list[Array]]:
        @jax.jit  # traced and lowered once for both looks
        def look(xs: Arrays, factors: list[Array]) -> list[Array]:
            return sums(xs, [[*map(_squares_by, factors)]], ROWS)[0]

        first = look(xs, [jnp.ones((), dtype) for dtype in dtypes])
        factors = [*map(range_factor, first, sizes)]
        out = functools.reduce(operator.or_, (jnp.any(f != 1) for f in factors))

        def again(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            return jnp.zeros_like(carry[0]), look(xs, factors)

        # Not `once_if`: `run` has a derivative of its own, and one for this, too, takes tracing.
        found: tuple[Array, list[Array]] = while_loop(lambda c: c[0], again, (out, first))
        return factors, found[1]

    def in_doubles(xs: Arrays) -> tuple[list[Array], list[Array]]:
        with doubles():
            found = sums(xs, [[_square_in_doubles] * len(sizes)], ROWS)[0]
            factors = [*map(range_factor, found, sizes, dtypes)]
            totals = [total * f * f for total, f in zip(found, factors, strict=True)]
            return [*map(cast, factors, dtypes)], [*map(cast, totals, dtypes)]

    def at_once(xs: Arrays) -> tuple[list[Array], list[Array]]:
        found = sums(xs, [[f] * len(sizes) for f in RANGES], BLOCKS)
        factors, totals = zip(*map(of_ranges, *found, sizes), strict=True)
        return [*factors], [*totals]

    @jax.custom_jvp
    def run(xs: Arrays) -> tuple[list[Array], list[Array]]:
        found: tuple[list[Array], list[Array]]
        narrow = all(jnp.finfo(d).bits < 64 for d in dtypes)
        # An older jax makes float32 of what it lowers outside of the context.
        cpu = in_doubles if narrow and hasattr(jax, "enable_x64") else twice
        found = jax.lax.platform_dependent(xs, cpu=cpu, default=at_once)
        return found

    @run.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        # Of the sum that was chosen alone: of one that was not it may be 0 times infinity.
        factors, totals = run(*primals)
        chosen = [_squares_by(f) for f in factors]
        _, tangent = jax.jvp(lambda xs: sums(xs, [chosen], ROWS)[0], primals, tangents)
        return (factors, totals), ([jnp.zeros_like(f) for f in factors], tangent)

    factors, totals = run(xs)
    # No tangent at all, where the rule has zeros: of 1 / f they would be 0 / f², and f² may be 0.
    return [jax.lax.stop_gradient(f) for f in factors], totals


def of_ranges(ordinary: Array, small: Array, large: Array, size: int) -> tuple[Array, Array]:
    """The factor of `range_factor`, and the one of the sums by `RANGES` that goes with it."""
    factor = range_factor(ordinary, size)
    return factor, jnp.where(factor > 1, small, jnp.where(factor < 1, large, ordinary))


def range_factor(total: Array, size: int, dtype: Any = None) -> Array:
    """What to multiply so many numbers by whose squares have this sum: 1, or a power of two.

    Not 1 where the sum is infinite, or so small that some squares are lost. `dtype` is what they
    and the sum are to be of, if not what the sum is of.
    """
    info = jnp.finfo(total.dtype if dtype is None else dtype)
    # A choice between constants would not be split as the sum is.
    one, _ = mapped_alike((jnp.ones_like(total), total))
    infinite = total > float(info.max)
    factor = jnp.where(infinite, one / _up(info.dtype), one * _up(info.dtype))
    lost = total < float(info.tiny) / float(info.eps) * size
    return jnp.where(infinite | lost, factor, one)


def _up(dtype: Any) -> float:
    # Three quarters of all exponents: the largest number's square and the least one's are then in
    # range, and what is lost of smaller ones beside them is beyond the digits of the sum.
    return 2.0 ** (int(jnp.finfo(dtype).maxexp) * 3 // 4)


def _squares_by(factor: Array | float) -> Each:
    return lambda x: jax.lax.square(x * factor)


def _square_in_doubles(x: Array) -> Array:
    return jax.lax.square(x.astype(jnp.float64))


def _square_by(factor: float, x: Array) -> Array:
    # Of single numbers XLA makes (x·c)·(x·c) to (x·x)·(c·c), which is out of range. Not so of this.
    # (And by primitives: it is traced many times for each norm.)
    nothing = jax.lax.full_like(x, 0)
    made = jax.lax.mul(x, jax.lax.full_like(x, factor))
    return jax.lax.square(jax.lax.select(jax.lax.eq(x, nothing), nothing, made))


RANGES: tuple[Callable[[Array], Array], ...] = (
    jax.lax.square,
    lambda x: _square_by(_up(x.dtype), x),
    lambda x: _square_by(1 / _up(x.dtype), x),
)
"""The squares of numbers of ordinary size, of small and of large ones, in range."""
