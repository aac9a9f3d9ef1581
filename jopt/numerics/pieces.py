"""Reducing many arrays to one number, in few kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import may_be_split, sharded, stacked
from jopt.numerics.repeated import of_batches

SMALL = 65_536
"""An array of at most so many entries is read together with the other small ones."""

Each = Callable[..., Array]
"""A function of every entry alone, under which zeros change nothing in what is made of all."""

Side = tuple[Array, ...]
"""Arrays of one shape that are read side by side: a function takes an entry of each of them."""

Made = Callable[[Side, Sequence[Each], Sequence[int]], list[Array]]
"""What is made of all entries along some axes, after each of these functions."""


class Cut(NamedTuple):
    """How arrays are cut into pieces that are reduced each alone, before they are together.

    A piece of a large array has whole rows, and of several rows at most `most` entries; the small
    ones together are `parts` pieces, or each is one if `parts` is 0.
    """

    most: int
    parts: int


ROWS = Cut(1, 1)
"""Row by row, as a CPU is fastest."""
BLOCKS = Cut(8_192, 128)
"""As few pieces as leave a GPU busy: each number made of a piece is written and read again."""
ALIKE = Cut(8_192, 0)
"""The same with less traffic: what is alike is read by one kernel and nothing is joined before. For
many sums of several arrays side by side, where that makes a difference."""
LONG = Cut(16_384, 0)
"""The same in half as many pieces. XLA cuts such long rows once more, and then writes nothing else
in the kernel that adds them up."""
OPERANDS = 90
"""So many arrays one of XLA's kernels can read."""
MANY = 4
"""So many small arrays of a shape are worth a kernel of their own."""


def one_by_one(over: Callable[..., Array]) -> Made:
    """A reduction for each function."""

    def made(x: Side, each: Sequence[Each], axes: Sequence[int]) -> list[Array]:
        return [over(f(*x), axis=tuple(axes)) for f in each]

    return made


class Fewer(NamedTuple):
    """The entries of many arrays, and zeros, in fewer of them: the small ones are one vector.

    For what looks at them several times: each time each of them takes time to trace.
    """

    apart: list[Array]
    one: list[Array]

    @staticmethod
    def of(xs: Sequence[Array]) -> Fewer:
        """These arrays."""
        apart: list[Array] = []
        small: list[Array] = []
        for x in xs:
            (apart if x.size > SMALL or _alone(x) else small).append(x)
        return Fewer(apart, [_joined(small, BLOCKS.parts).reshape(-1)] if small else [])

    @property
    def sides(self) -> list[Side]:
        """Those that are apart, for `in_pieces`."""
        return [(x,) for x in self.apart]

    @property
    def joined(self) -> list[Side]:
        """The one, if there is one."""
        return [(x,) for x in self.one]


def in_pieces(
    xs: Sequence[Side],
    each: Sequence[Each],
    over: Callable[..., Array],
    cut: Cut = ROWS,
    made: Made | None = None,
    joined: Sequence[Side] = (),
) -> list[Array]:
    """`over` of every entry of all arrays, after each of these functions.

    `made` is how it is made of one array after all of them, if there is a better way than one
    reduction for each. What is `joined` are small ones that are one already; see `Fewer`.

    An array alone costs a GPU two kernels, one for pieces and one for the whole, and a small
    array as many as a large one. Here a large array is reduced to pieces in one kernel, whatever
    the number of functions; small ones are joined and read by one. The barriers keep XLA from
    undoing it. What is sharded by its very type cannot be joined, and what may be sharded although
    its type does not say it would have to be gathered for that: each is reduced on its own. (Not
    side by side with others of its shape: of one alone that is an axis of length 1 in front, whose
    sum behind a barrier XLA's CPU gets wrong, as of jax 0.10.)
    """
    made = made or one_by_one(over)

    @functools.partial(jax.jit, inline=True)
    def pieces(x: Side) -> list[Array]:
        x, axes = _cut(x, cut.most)
        return [_flat(total) for total in made(x, each, axes)]

    apart: list[Side] = []
    whole: list[Side] = []
    for x in xs:
        (apart if any(map(_alone, x)) else whole).append(x)
    small = [*joined, *(x for x in whole if x[0].size <= SMALL)]
    large = [x for x in whole if x[0].size > SMALL]

    def together(some: Sequence[Side]) -> list[list[Array]]:
        found: list[list[Array]] = jax.lax.optimization_barrier([*map(pieces, some)])
        return found

    parts = [x for some in of_batches(together, large, [x[0].shape for x in large]) for x in some]
    beside: list[list[Array]] = []
    if not cut.parts:
        alike, small = _alike(small)
        beside += [made(side, each, (1,)) for side in alike]
    if small:
        rows = tuple(_joined(side, cut.parts) for side in zip(*small, strict=True))
        beside.append([x.reshape(-1) for x in made(rows, each, (rows[0].ndim - 1,))])
    parts += jax.lax.optimization_barrier(beside)
    found = [
        made(x, each, range(x[0].ndim))
        if any(map(sharded, x)) or x[0].size <= SMALL
        else [over(numbers) for numbers in jax.lax.optimization_barrier(pieces(x))]
        for x in apart
    ]
    if parts and not cut.parts:
        found.append(_of_alike(parts, over))
    elif parts:
        one = jax.lax.concatenate([p[i] for i in range(len(each)) for p in parts], 0)
        table = jax.lax.optimization_barrier(one).reshape(len(each), -1)
        found.append([*over(table, axis=1)])
    if len(found) == 1:
        return found[0]
    return [over(stacked(numbers)) for numbers in zip(*found, strict=True)]


def _alone(x: Array) -> bool:
    """Whether it is reduced on its own, as it is split or may be; see `in_pieces`."""
    return sharded(x) or may_be_split(x)


def _alike(small: Sequence[Side]) -> tuple[list[Side], list[Side]]:
    """Small arrays of a shape as rows of one, as many as a kernel can read, and those left over."""
    of_shape: dict[tuple[int, ...], list[Side]] = {}
    for x in small:
        of_shape.setdefault(x[0].shape, []).append(x)
    alike, rest = [], []
    for xs in of_shape.values():
        if len(xs) < MANY:
            rest += xs
            continue
        most = OPERANDS // (2 * len(xs[0]))  # half: an array may be made of two
        for some in (xs[i : i + most] for i in range(0, len(xs), most)):
            flat = ([*map(_flat, side)] for side in zip(*some, strict=True))
            rows = len(some), some[0][0].size
            alike.append(tuple(jax.lax.concatenate(side, 0).reshape(rows) for side in flat))
    return alike, rest


def _of_alike(parts: Sequence[Sequence[Array]], over: Callable[..., Array]) -> list[Array]:
    """`over` of all pieces, for each of the functions that they are made after.

    Pieces of arrays with as many of them are read by one kernel, which writes a number for each.
    """
    ways, of_size = len(parts[0]), dict[int, list[Sequence[Array]]]()
    for part in parts:
        of_size.setdefault(part[0].size, []).append(part)
    rows, most = [], max(1, OPERANDS // ways)
    for size, members in of_size.items():
        for some in (members[i : i + most] for i in range(0, len(members), most)):
            one = jax.lax.concatenate([p[i] for i in range(ways) for p in some], 0)
            rows.append(over(one.reshape(ways * len(some), size), axis=1).reshape(ways, -1))
    table = jax.lax.optimization_barrier(jax.lax.concatenate(rows, 1))
    return [*over(table, axis=1)]


def each_in_pieces(
    xs: Sequence[Array],
    each: Sequence[Sequence[Each]],
    over: Callable[..., Array],
    cut: Cut = ROWS,
    made: Made | None = None,
) -> list[list[Array]]:
    """`over` of every entry of each array alone, after each of these functions for it.

    What pieces of large arrays of one shape come to is reduced by one kernel for all of them.
    """
    made = made or one_by_one(over)
    ways = [*zip(*each, strict=True)]
    whole = [made((x,), way, range(x.ndim)) for x, way in zip(xs, ways, strict=True)]
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, x in enumerate(xs):
        if cut != ROWS and x.size > SMALL and not sharded(x):
            alike.setdefault(x.shape, []).append(i)
    for members in alike.values():
        pieces = []
        for i in members:
            side, axes = _cut((xs[i],), cut.most)
            pieces += [_flat(total) for total in made(side, ways[i], axes)]
        joint = iter(over(stacked(jax.lax.optimization_barrier(pieces)), axis=1))
        for i in members:
            whole[i] = [next(joint) for _ in each]
    return [*map(list, zip(*whole, strict=True))]


def last_axes(x: Array, most: int) -> tuple[int, ...]:
    """The last axis, and those before it that make rows of at most so many entries with it."""
    axes, size = 1, x.shape[-1]
    while axes < x.ndim and size * x.shape[-axes - 1] <= most:
        axes, size = axes + 1, size * x.shape[-axes - 1]
    return tuple(range(x.ndim - axes, x.ndim))


def _cut(side: Side, most: int) -> tuple[Side, tuple[int, ...]]:
    """The arrays with an axis split in two if need be, and the last axes, which a piece has."""
    shape, whole = side[0].shape, last_axes(side[0], most)
    axes, size = len(whole), math.prod(shape[axis] for axis in whole)
    at = len(shape) - axes - 1
    rows = shape[at] if at >= 0 else 1
    # A power of two: so the axis is split where devices or a TPU's tiles have split it, too.
    together = 1
    while rows % (2 * together) == 0 and 2 * together * size <= most:
        together *= 2
    if together > 1:
        shape = (*shape[:at], rows // together, together, *shape[at + 1 :])
        side, axes = tuple(x.reshape(shape) for x in side), axes + 1
    return side, tuple(range(len(shape) - axes, len(shape)))


def _joined(small: Sequence[Array], parts: int) -> Array:
    """Small arrays as one of so many rows, with zeros at the end; of no rows if it is one."""
    flat = [_flat(x) for x in small]
    of = sum(x.size for x in flat)
    rest = -of % max(parts, 1)
    flat += [jnp.zeros(rest, flat[0].dtype)] if rest else []
    one: Array = jax.lax.concatenate(flat, 0)
    return one.reshape(parts, (of + rest) // parts) if parts > 1 else one


def _flat(x: Array) -> Array:
    return x if x.ndim == 1 else jax.lax.reshape(x, (x.size,))
