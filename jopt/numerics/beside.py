"""Norms of several lists of arrays, made side by side in the kernels that make the arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.dtypes import cast, compute_dtype, real_dtype, widest
from jopt.numerics.explicit import may_be_split, sharded
from jopt.numerics.norms import add_up, sums_after, sums_beside, wide
from jopt.numerics.pieces import BLOCKS, SMALL, Cut, Each, in_pieces, last_axes
from jopt.numerics.ranges import in_range
from jopt.numerics.roots import safe_sqrt

SHORT = 64
"""Rows of fewer entries are so many that their sums would be some of the traffic."""


def global_norms(lists: Sequence[Sequence[Array]]) -> list[Array]:
    """`global_norm` of each of these lists, whose arrays have the same shapes in the same order.

    On a GPU the arrays at one place of all lists are one reduction, row by row. So it can be part
    of the kernel that writes one of them: XLA puts a reduction there if it goes over the very
    shape that is written, and if it is the only one; beside a second it would write in place no
    more, but copy.
    """
    if not lists[0]:
        return [jnp.zeros(()) for _ in lists]
    count, places = len(lists), len(lists[0])
    flat = [x for xs in lists for x in xs]
    dtype = widest(*(compute_dtype(real_dtype(x.dtype)) for x in flat))

    def sums(flat: list[Array], ways: Sequence[Sequence[Each]], cut: Cut) -> list[list[Array]]:
        alike = [cast(wide(x), dtype) for x in flat]
        columns = [alike[i * places :][:places] for i in range(count)]
        each = [*map(list, zip(*ways, strict=True))]
        return [*map(list, zip(*_sums(columns, each, cut), strict=True))]

    sizes = [sum(x.size for x in xs) for xs in lists]
    factors, totals = in_range(sums, flat, sizes, [dtype] * count)
    return [safe_sqrt(total) / factor for factor, total in zip(factors, totals, strict=True)]


def _sums(
    columns: Sequence[Sequence[Array]], each: Sequence[Sequence[Each]], cut: Cut
) -> list[list[Array]]:
    """For each list the sums over all of its entries, after each of the functions for it."""
    rows = [cut == BLOCKS and _in_rows(x) for x in columns[0]]
    parts: list[list[Array]] = []
    for together, *xs in zip(rows, *columns, strict=True):
        if together:
            axes = last_axes(xs[0], cut.most)
            made = [jnp.ravel(total) for total in sums_beside(xs, each, axes)]
            # Each behind a barrier of its own: a consumer in common would make kernels one.
            parts.append(jax.lax.optimization_barrier(made))
    rest: list[Array] = []
    if not all(rows):
        for column, functions in zip(columns, each, strict=True):
            left = [(x,) for together, x in zip(rows, column, strict=True) if not together]
            rest += in_pieces(left, functions, add_up, cut, sums_after)
    if parts:
        parts += [[x.reshape(1) for x in rest]] if rest else []
        ways = sum(map(len, each))
        one = jax.lax.concatenate([part[i] for i in range(ways) for part in parts], 0)
        rest = [*add_up(jax.lax.optimization_barrier(one).reshape(ways, -1), axis=1)]
    found = iter(rest)
    return [[next(found) for _ in functions] for functions in each]


def _in_rows(x: Array) -> bool:
    """Whether the sums of rows of this array, as it is, are few, and many enough for a GPU."""
    if x.size <= SMALL or sharded(x) or may_be_split(x):
        return False
    length = math.prod(x.shape[axis] for axis in last_axes(x, BLOCKS.most))
    return SHORT <= length <= BLOCKS.most
