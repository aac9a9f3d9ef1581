"""Work on stacks that is not due at every step: all of it at one, or a share at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.joint import Trees, joined, parted

AT_ONCE = 1 << 24
"""So many bytes of matrices of one stack are worked on at once, or one matrix that has more.

All at once, where that is at most twice as much: the tiles of a small embedding on one device.
"""


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

    One stack is worked on some rows after the other, each written over the old ones: what is made
    on the way is then of these rows, and not as large as several such stacks. Products of what is
    worked on at once are large enough to fill a device.
    """
    count = sum(jax.tree.leaves(tree)[0].shape[0] for tree in given)
    if spread and every > 1:
        share = -(-count // every)
        at = turn.astype(jnp.int32) * share

        def some(held: Trees) -> Trees:
            return parted(_rows_anew(work, joined(given), joined(held), at, share), held)

        return at < count, some
    share = _at_once(given[0]) if len(given) == 1 else count
    if count <= 2 * share:
        return turn == 0, lambda held: parted(work(joined(given), joined(held)), held)

    def by_rows(held: Trees) -> Trees:
        def some(i: Array, one: Any) -> Any:
            return _rows_anew(work, given[0], one, i * share, share)

        return [jax.lax.fori_loop(0, -(-count // share), some, held[0])]

    return turn == 0, by_rows


def _at_once(tree: Any) -> int:
    """How many rows of a stack are worked on at once."""
    rows = [x.nbytes // x.shape[0] for x in jax.tree.leaves(tree) if x.shape[0]]
    return max(1, AT_ONCE // max(rows, default=1))


def _rows_anew(
    work: Callable[[Any, Any], Any], given: Any, held: Any, at: Array, share: int
) -> Any:
    """`held` with so many rows from this one on made anew, those that there are."""
    rows = at + jnp.arange(share, dtype=jnp.int32)
    picked = jax.tree.map(lambda x: jnp.take(x, rows, 0, mode="clip"), (given, held))
    return jax.tree.map(lambda x, y: x.at[rows].set(y, mode="drop"), held, work(*picked))
