"""Arithmetic on a few numbers, compiled as one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.loops import while_loop

Numbers = Any


def one_kernel(f: Callable[..., Numbers], yes: Array, like: Numbers, *args: Numbers) -> Numbers:
    """`f(*args)`, of trees of numbers and of arrays of a few.

    On a CPU XLA makes a kernel of every few operations, for which it needs 10 to 40 ms each, but
    one of a whole loop that reads and writes less than 1024 bytes a turn. So there it is a loop
    of one turn, if `yes`; this must be true, and not in a way that XLA could know. Under
    `jax.vmap` numbers are no few any more, and it is `f` as it is. `like` is what `f` gives in
    structure, shapes and dtypes; its values are of no account.
    """
    given, first = jax.tree.leaves(args), jax.tree.leaves(like)
    tree: Any = jax.tree.structure(args)
    shape: Any = jax.tree.structure(like)
    n = len(first)

    def plain(yes: Array, *leaves: Array) -> list[Array]:
        return jax.tree.leaves(f(*tree.unflatten(leaves[n:])))

    def loop(yes: Array, *leaves: Array) -> list[Array]:
        def turn(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            return jnp.zeros_like(carry[0]), plain(*carry[:1], *leaves)

        return while_loop(lambda carry: carry[0], turn, (yes, [*leaves[:n]]))[1]

    # Leaves alone: a batch of derivatives fails on a tree in which there is a `None`.
    @jax.custom_batching.custom_vmap
    def run(*leaves: Array) -> list[Array]:
        found: list[Array] = jax.lax.platform_dependent(*leaves, cpu=loop, default=plain)
        return found

    @run.def_vmap
    def batched(size: int, axes: Any, *leaves: Array) -> tuple[list[Array], list[bool]]:
        some = any(axes)  # not where a batch of tangents is at one point
        which = [0 if batched else None for batched in axes]
        found = jax.vmap(plain, which, axis_size=size)(*leaves) if some else plain(*leaves)
        return found, [some] * n

    return shape.unflatten(run(yes, *first, *given))
