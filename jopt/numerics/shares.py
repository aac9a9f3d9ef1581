"""Work on stacks that is not due at every step: all of it at one, or a share at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.joint import Trees, joined, parted


def in_shares(
    work: Callable[[Any, Any], Any], given: Trees, turn: Array, every: int, spread: bool
) -> tuple[Array, Callable[[Trees], Trees]]:
    """Whether there is work to do at this turn, and what does it, to what has been until then.

    **Arguments:**

    - `work`: `work(given, held)`, new values of `held`, for any rows of stacks.
    - `given`: a list of trees of stacks, which are put together where there is work, and so are
      those that are made anew, which have as many rows.
    - `turn`: 0 up to `every`, and from 0 again.
    - `spread`: each row at one turn of its own, where else all are due at turn 0. Which rows are
      due depends on the turn, their number does not.
    """
    count = sum(jax.tree.leaves(tree)[0].shape[0] for tree in given)
    if not spread or every == 1:
        return turn == 0, lambda held: parted(work(joined(given), joined(held)), held)
    share = -(-count // every)
    at = turn.astype(jnp.int32) * share

    def some(held: Trees) -> Trees:
        rows = at + jnp.arange(share, dtype=jnp.int32)
        old = joined(held)
        picked = jax.tree.map(lambda x: jnp.take(x, rows, 0, mode="clip"), (joined(given), old))
        new = jax.tree.map(lambda x, y: x.at[rows].set(y, mode="drop"), old, work(*picked))
        return parted(new, held)

    return at < count, some
