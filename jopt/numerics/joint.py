"""Work that several stacks have in common, done once for all of them.

What is to be done to a stack may be a generator:

    def batch(x):
        ...
        y = yield work, x    # y is what becomes of x, whatever is done beside it
        ...
        return result

`work` has a list, with the `x` of every stack, a tree of arrays whose first axis numbers the
matrices, and gives the list of what becomes of each. So what the linear algebra reads is put
together, and what surrounds the `yield` stays with each stack.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import is_traced

Trees = Sequence[Any]
Together = Generator[tuple[Callable[[Trees], Trees], Any], Any, Any]
"""Work under way: it yields what is done to all, and to what; and gets back what became of it."""


def all_of(runs: Iterable[Together]) -> list[Any]:
    """What all of these come to, each `yield` of theirs at once."""
    runs = [*runs]
    sent: Trees = [None] * len(runs)
    while True:
        found, asked = [], []
        for run, x in zip(runs, sent, strict=True):
            try:
                asked.append(run.send(x))
            except StopIteration as done:
                found.append(done.value)
        if not asked:
            return found
        sent = asked[0][0]([x for _, x in asked])


def as_one(work: Callable[[Any], Any]) -> Callable[[Trees], Trees]:
    """Work on the rows of one stack, done to several: they are one below the other for it."""

    def done(of: Trees) -> Trees:
        made, counts = work(joined(of)), _counts(of)
        if len(of) == 1 or not any(is_traced(x) for x in jax.tree.leaves(made)):
            return _pieces(made, counts)
        on_gpu = functools.partial(_pieces, counts=counts, cut=_cut_by_rows)
        elsewhere = functools.partial(_pieces, counts=counts)
        found: Trees = jax.lax.platform_dependent(made, cuda=on_gpu, rocm=on_gpu, default=elsewhere)
        return found

    return done


def joined(of: Trees) -> Any:
    """Trees of stacks as one, in which their rows follow one another."""
    if len(of) == 1:
        return of[0]
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *of)


def parted(made: Any, of: Trees) -> list[Any]:
    """A tree of stacks that has a row for each of those of `joined`, apart again."""
    return _pieces(made, _counts(of))


def _counts(of: Trees) -> list[int]:
    return [jax.tree.leaves(tree)[0].shape[0] for tree in of]


def _cut(x: Array, start: int, stop: int) -> Array:
    return x[start:stop]


def _cut_by_rows(x: Array, start: int, stop: int) -> Array:
    """The same of a stack of matrices, whose rows are one below the other for it.

    XLA leaves every slice of an array to a kernel of its own, as no two have an entry in common.
    It does not look so closely here: for GPUs all slices are one kernel.
    """
    if x.ndim < 3:
        return _cut(x, start, stop)
    n, rows = x.shape[1], x.reshape(-1, *x.shape[2:])
    return rows[start * n : stop * n].reshape(stop - start, *x.shape[1:])


def _pieces(made: Any, counts: Sequence[int], cut: Callable[..., Array] = _cut) -> list[Any]:
    if len(counts) == 1:
        return [made]
    ends = itertools.pairwise(itertools.accumulate(counts, initial=0))
    return [jax.tree.map(lambda x, a=a, b=b: cut(x, a, b), made) for a, b in ends]
