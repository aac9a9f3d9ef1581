"""Norms over one array or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import as_pairs, cast, compute_dtype, real_dtype, widest
from jopt.numerics.explicit import mapped_alike
from jopt.numerics.pieces import BLOCKS, ROWS, Cut, Each, Fewer, Side, each_in_pieces, in_pieces
from jopt.numerics.ranges import in_range
from jopt.numerics.roots import safe_sqrt


def sum_of_squares(x: Array) -> Array:
    """∑|xᵢ|², in at least float32; a complex entry counts |x|²."""
    return jnp.sum(jnp.square(wide(x)))


def norm(x: Array) -> Array:
    """‖x‖₂ over every entry, in at least float32."""
    factors, norms = scaled_norms([x])
    return norms[0] / factors[0]


def global_norm(xs: Sequence[Array]) -> Array:
    """‖(x₁, x₂, …)‖₂ over every entry of every array, in at least float32; 0 for no arrays."""
    factor, scaled = scaled_norm(xs)
    return scaled / factor


def scaled_norm(xs: Sequence[Array]) -> tuple[Array, Array]:
    """f and ‖f·(x₁, x₂, …)‖₂, for f a power of two that keeps the squares in range.

    The squares of float32 numbers beyond 10¹⁹ or below 10⁻¹⁹ are out of range, and even the norm
    of finite numbers may be. Nearly always f is 1. A finite norm is right for all finite entries,
    but for what a CPU takes for 0 (XLA sets it so that it does with subnormal numbers). Infinite
    entries have an infinite norm.
    """
    if not xs:
        return jnp.ones(()), jnp.zeros(())
    dtype = widest(*(compute_dtype(real_dtype(x.dtype)) for x in xs))

    def sums(xs: Fewer, ways: Sequence[Sequence[Each]], cut: Cut) -> list[list[Array]]:
        each = [each for (each,) in ways]
        return [[x] for x in in_pieces(xs.sides, each, add_up, cut, sums_after, xs.joined)]

    alike = Fewer.of([cast(wide(x), dtype) for x in xs])
    (factor,), (total,) = in_range(sums, alike, [sum(x.size for x in xs)], [dtype])
    return factor, safe_sqrt(total)


def scaled_norms(xs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """`scaled_norm` of each array alone."""
    if not xs:
        return [], []

    def sums(xs: list[Array], ways: Sequence[Sequence[Each]], cut: Cut) -> list[list[Array]]:
        return each_in_pieces([wide(x) for x in xs], ways, add_up, cut, sums_after)

    dtypes = [compute_dtype(real_dtype(x.dtype)) for x in xs]
    factors, totals = in_range(sums, [*xs], [x.size for x in xs], dtypes)
    return factors, [safe_sqrt(total) for total in totals]


def trusted(
    x: Array,
    p: Array,
    d: Array,
    *,
    coefficient: Array | float = 1.0,
    eps: Array | float = 0.0,
    low: Array | None = None,
    high: Array | None = None,
    least: Array | None = None,
    most: Array | None = None,
) -> Array:
    """x·min(c·φ(‖p‖) / (max(‖d‖, l) + ε), r), the trust ratio of LARS and LAMB.

    φ(a) = min(max(a, low), high), l is `least` and r is `most`, each if given; x where φ(‖p‖) or
    ‖d‖ is 0.
    """
    (of_p, of_d), (p_norm, d_norm) = scaled_norms([p, d])
    held = p_norm / of_p
    held = held if low is None else jnp.maximum(held, low)
    held = held if high is None else jnp.minimum(held, high)
    none = (held == 0) | (d_norm == 0)
    d_norm = d_norm if least is None else jnp.maximum(d_norm, least * of_d)
    share = coefficient * held / jnp.where(none, 1, d_norm + eps * of_d)
    share = share if most is None else jnp.minimum(share, most / of_d)
    # The power of two first: where ‖d‖ is out of range, the ratio alone may be, too.
    return jnp.where(none, x, share * (of_d * x))


def scaled_norms_along(x: Array, axes: Sequence[int]) -> tuple[Array, Array]:
    """`scaled_norm` over these axes of an array of pairs or reals, both with length 1 along them.

    If one needs a second look, all of the array is read again.
    """

    def sums(xs: list[Array], ways: Sequence[Sequence[Each]], cut: Cut) -> list[list[Array]]:
        wide = cast(xs[0], compute_dtype(xs[0].dtype))
        found = sums_after((wide,), [f for (f,) in ways], axes)
        return [[jnp.expand_dims(total, tuple(axes))] for total in found]

    size = math.prod(x.shape[i] for i in axes)
    (factor,), (total,) = in_range(sums, [x], [size], [compute_dtype(x.dtype)])
    return factor, safe_sqrt(total)


def norm_of_each(x: Array) -> Array:
    """The norm of each array of a stack, of as many axes."""
    factor, scaled = scaled_norms_along(x, [*range(1, x.ndim)])
    return scaled / factor


def scaled_matrix_norms(x: Array) -> tuple[Array, Array]:
    """`scaled_norm` of each matrix of a batch of shape (k, m, n), both of shape (k, 1, 1)."""
    return scaled_norms_along(x, (-2, -1))


def add_up(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """∑xᵢ, along the axes if some are given."""
    # The primitive: jnp's own takes tracing five times as long, and it is one for each array.
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    total: Array = jax.lax.reduce_sum(x, axes)
    return total


def sums_after(x: Side, each: Sequence[Each], axes: Sequence[int]) -> list[Array]:
    """The sums after each of these functions, which are 0 of 0, in one reduction of `x` itself.

    What several reductions read, XLA writes down for them, unless it is there already: it counts
    what computing it once for each would cost, before it makes one kernel of them. So this is one,
    of entries beside their sums, which are 0 as yet; and what it adds up turns entries into sums.
    """
    axes, first, count = tuple(axis % x[0].ndim for axis in axes), x[0], len(x)
    # A reduction takes arrays that are split alike.
    alike = all(jax.typeof(a).sharding == jax.typeof(first).sharding for a in x)
    if len(each) == 1 or not alike or math.prod(first.shape[axis] for axis in axes) < 2:
        return [add_up(f(*x), axes) for f in each]

    def add(a: Sequence[Array], b: Sequence[Array]) -> tuple[Array, ...]:
        made = zip(each, a[count:], b[count:], strict=True)
        totals = [plus(plus(plus(m, n), f(*a[:count])), f(*b[:count])) for f, m, n in made]
        return (*map(jnp.zeros_like, a[:count]), *totals)

    plus = jax.lax.add  # by primitives, as `add_up`
    start, none = jnp.zeros((), first.dtype), jnp.zeros_like(first)
    operands = mapped_alike((*x, *[none] * len(each)))
    found: list[Array] = jax.lax.reduce(operands, (start,) * len(operands), add, axes)
    return found[count:]


def sums_beside(
    xs: Sequence[Array], each: Sequence[Sequence[Each]], axes: Sequence[int]
) -> list[Array]:
    """`sums_after` of arrays of one shape, each after functions of its own, in one reduction."""
    ways = [_of_one(i, f) for i, functions in enumerate(each) for f in functions]
    return sums_after(tuple(xs), ways, axes)


def _of_one(i: int, f: Each) -> Each:
    return lambda *entries: f(entries[i])


def all_finite(xs: Sequence[Array]) -> Array:
    """Whether no entry of any array is infinite or NaN; true for no arrays.

    It reads the arrays in the pieces that `global_norm` reads them in, so that a program that
    needs both reads them once.
    """
    if not xs:
        return jnp.ones((), bool)

    def by(cut: Cut) -> Callable[[Fewer], Array]:
        return lambda xs: in_pieces(xs.sides, [jnp.isfinite], jnp.all, cut, None, xs.joined)[0]

    found: Array = jax.lax.platform_dependent(
        Fewer.of([wide(x) for x in xs]), cpu=by(ROWS), default=by(BLOCKS)
    )
    return found


def wide(x: Array) -> Array:
    """`x` in at least float32, complex entries as pairs."""
    return as_pairs(cast(x, compute_dtype(x.dtype)))
