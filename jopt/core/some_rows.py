"""Rules that hand on some rows of a matrix alone, which they have chosen.

    x = yield SomeRows(b, rows, dtype)    # x is like b, with zeros in the rows not chosen

Where a matrix is whole they are taken, and stacked with others of their shape. Where a mesh
splits it they may be on any of its devices, and an exchange has to know its shapes beforehand. So
its owner gets all of it, zeros in the rows not chosen, takes those that are not zero, and gives
back as much: that moves what any matrix does, and gathers nothing. A chosen row of zeros need not
be among those that the owner takes, so `batch` must make zeros of it, and nothing of others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError
from jopt.core.algebra import Algebra, Kept
from jopt.core.batches import Stacks, with_stacks
from jopt.core.ownership import Lie
from jopt.numerics import alike, marked, put_back, taken
from jopt.numerics.explicit import whole


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("of", "rows"), meta_fields=("dtype",)
)
@dataclass(frozen=True)
class SomeRows:
    """Rows of a matrix `of`, columns of a tall one, by number and in order.

    `dtype` is what they are handed on in. Of a leaf of many matrices both have its leading axes.
    """

    of: Array
    rows: Array
    dtype: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """That of what is chosen."""
        *lead, m, n = self.of.shape
        return (*lead, self.count, n) if m <= n else (*lead, m, self.count)

    @property
    def size(self) -> int:
        """How many entries that has."""
        return self.of.size // max(min(self.of.shape[-2:]), 1) * self.count

    @property
    def count(self) -> int:
        """How many rows of a matrix are chosen."""
        return self.rows.shape[-1]

    def apart(self) -> Array:
        """These rows alone."""
        return self._each(lambda x, rows: taken(whole(x, 0, 1), rows).astype(self.dtype))

    def among_zeros(self) -> Array:
        """The matrices, zeros in all other rows."""

        def one(x: Array, rows: Array) -> Array:
            return alike(jnp.where(marked(x.shape, rows), x, 0).astype(self.dtype), x)

        return self._each(one)

    def back(self, made: Array) -> Array:
        """What was made of the rows alone, among zeros."""

        def one(x: Array, rows: Array, made: Array) -> Array:
            return alike(put_back(whole(made, 0, 1), rows, x.shape), x)

        return self._each(one, made)

    def _each(self, f: Callable[..., Array], *more: Array) -> Array:
        for _ in range(self.of.ndim - 2):
            f = jax.vmap(f)
        return f(self.of, self.rows, *more)


Sent = Array | SomeRows


def matrices_of(x: Any) -> Any:
    """What a rule yields, or the matrices some rows of which it yields."""
    return x.of if isinstance(x, SomeRows) else x


def with_rows(
    algebra: Algebra,
    xs: Sequence[Sent],
    kept: Sequence[Kept],
    lies: Sequence[Lie | None],
    paths: Sequence[tuple[str, ...]],
    stacks: Stacks,
) -> tuple[list[Array], list[Kept], Stacks]:
    """`with_stacks`, where of some matrices there may be rows alone."""
    if not any(isinstance(x, SomeRows) for x in xs):
        return with_stacks(algebra, [*map(matrices_of, xs)], kept, lies, paths, stacks)
    if algebra.owned:
        raise ConfigError(
            algebra.who,
            "the rule yields some rows, and what is kept beside a matrix is of all",
            expected="no slots that are owned",
            found=", ".join(algebra.owned),
        )
    among = _among_zeros(xs, lies)
    results: dict[int, Array] = {}
    for count in dict.fromkeys(among):
        members = [i for i, own in enumerate(among) if own == count]
        of = replace(algebra, rows=count)
        sent = [_sent(xs[i], count) for i in members]
        own = [kept[i] for i in members], [lies[i] for i in members], [paths[i] for i in members]
        made, _, stacks = with_stacks(of, sent, *own, stacks)
        results |= zip(members, made, strict=True)
    back = [
        x.back(results[i]) if isinstance(x, SomeRows) and among[i] is None else results[i]
        for i, x in enumerate(xs)
    ]
    return back, [*kept], stacks


def _sent(x: Sent, count: int | None) -> Array:
    if not isinstance(x, SomeRows):
        return x
    return x.apart() if count is None else x.among_zeros()


def _among_zeros(xs: Sequence[Sent], lies: Sequence[Lie | None]) -> list[int | None]:
    """Of each how many rows are among zeros where it is sent so; all of a class go alike."""
    keys = [
        (tuple(sorted(x.of.shape[-2:])), x.count) if isinstance(x, SomeRows) else None for x in xs
    ]
    split = {
        key
        for key, x, lie in zip(keys, xs, lies, strict=True)
        if key and lie is not None and any(lie.over[-2:])
    }
    return [
        key[1] if key in split and lie is not None and key else None
        for key, lie in zip(keys, lies, strict=True)
    ]
