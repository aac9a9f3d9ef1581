"""Decompositions of matrices, which on a CPU are made of one matrix after the other.

A decomposition of a batch is dealt out there among the threads that run the program, and waits for
them in one of those: as many at once as there are threads wait for each other for ever, which
needs no more than two classes of large matrices on two cores. That of one matrix waits for none.
Elsewhere batches are made as batches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.numerics.explicit import laid, like, whole

Decomposition = Callable[..., Any]
"""Of matrices that have the last two axes of its arguments."""


def _apart(f: Decomposition) -> Decomposition:
    """A decomposition for stacks and under `vmap`, with the derivatives that it had."""
    alone = jax.custom_batching.custom_vmap(f)

    @alone.def_vmap
    def _(size: int, split: list[bool], *xs: Array) -> tuple[Any, Any]:
        def given(each: tuple[Array, ...]) -> Any:
            moving = iter(each)
            return alone(*(next(moving) if s else x for s, x in zip(split, xs, strict=True)))

        moving = [x for s, x in zip(split, xs, strict=True) if s]
        found = jax.lax.map(given, tuple(whole(x, 0) for x in moving))
        # Split again as the batch was, as a batch that is decomposed at once would be.
        found = jax.tree.map(lambda y: like(y, laid(moving[0], 0, *(None,) * (y.ndim - 1))), found)
        return found, jax.tree.map(lambda _: True, found)

    @jax.custom_jvp
    def either(*xs: Array) -> Any:
        one = alone
        for _ in range(xs[0].ndim - 2):
            one = jax.vmap(one)
        return jax.lax.platform_dependent(*xs, cpu=one, default=f)

    @either.defjvp
    def _(xs: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
        return jax.jvp(f, xs, tangents)

    return functools.wraps(f)(either)


@_apart
def eigh(x: Array) -> tuple[Array, Array]:
    """Eigenvalues, the least first, and eigenvectors as columns, of symmetric matrices."""
    values, vectors = jnp.linalg.eigh(x)
    return values, vectors


@_apart
def orthogonal(x: Array) -> Array:
    """The Q of Q·R."""
    q: Array = jnp.linalg.qr(x)[0]
    return q


@_apart
def svd(x: Array) -> tuple[Array, Array, Array]:
    """U, the singular values and Vᵀ, with as many columns and rows as there are values."""
    u, values, v = jnp.linalg.svd(x, full_matrices=False)
    return u, values, v


@_apart
def solved_below(r: Array, b: Array) -> Array:
    """R⁻ᵀ·B for an R whose entries below the diagonal are 0."""
    found: Array = jax.scipy.linalg.solve_triangular(r, b, trans=1)
    return found
