"""Work on stacks that is not due at every step: all of it at one, or a share at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def in_shares(
    work: Callable[[Any, Any], Any], given: Any, held: Any, turn: Array, every: int, spread: bool
) -> tuple[Array, Callable[[], Any]]:
    """Whether there is work to do at this turn, and what does it: `held` thereafter.

    **Arguments:**

    - `work`: `work(given, held)`, new values of `held`, for any rows of stacks.
    - `given`, `held`: trees of stacks with as many rows; what is read, and what is made anew.
    - `turn`: 0 up to `every`, and from 0 again.
    - `spread`: each row at one turn of its own, where else all are due at turn 0. Which rows are
      due depends on the turn, their number does not.
    """
    count = jax.tree.leaves(held)[0].shape[0]
    if not spread or every == 1:
        return turn == 0, lambda: work(given, held)
    share = -(-count // every)
    at = turn.astype(jnp.int32) * share

    def some() -> Any:
        rows = at + jnp.arange(share, dtype=jnp.int32)
        picked = jax.tree.map(lambda x: jnp.take(x, rows, 0, mode="clip"), (given, held))
        return jax.tree.map(lambda x, y: x.at[rows].set(y, mode="drop"), held, work(*picked))

    return at < count, some
