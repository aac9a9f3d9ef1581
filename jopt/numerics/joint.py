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

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

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
    return lambda of: parted(work(joined(of)), of)


def joined(of: Trees) -> Any:
    """Trees of stacks as one, in which their rows follow one another."""
    if len(of) == 1:
        return of[0]
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *of)


def parted(made: Any, of: Trees) -> list[Any]:
    """A tree of stacks that has a row for each of those of `joined`, apart again."""
    if len(of) == 1:
        return [made]
    found, at = [], 0
    for tree in of:
        count = jax.tree.leaves(tree)[0].shape[0]
        found.append(jax.tree.map(lambda x, at=at, n=count: x[at : at + n], made))
        at += count
    return found
