"""What rules keep for each side of a matrix: square arrays, and a basis to see it in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.declared import Options, Shape, Slot
from jopt.numerics import eigenbasis, in_basis, in_shares

SIDES = {"short": -2, "long": -1}
"""The axis of each, in a stack, where tall matrices are turned over."""


def has_side(name: str, shape: Shape, on: Options) -> bool:
    """Whether matrices of this shape have a basis for their shorter, or longer side."""
    if len(shape) != 2 or 0 in shape or (name == "long" and on.get("one_sided")):
        return False
    return length_of(name, shape) <= int(on["max_size"])


def length_of(name: str, shape: Shape) -> int:
    """How long a side is."""
    return (min if name == "short" else max)(shape)


def side_slot(kind: str, name: str, *, ndim: int = 2, signed: bool = True) -> Slot:
    """The square array that a side of a matrix has, or with one axis the row of numbers."""

    def shape(of: Shape, on: Options) -> Shape:
        return (length_of(name, of),) * ndim

    def fits(of: Shape, on: Options) -> bool:
        return has_side(name, of, on)

    return Slot(f"{kind}_{name}", shape, fits=fits, compress=False, owned=True, signed=signed)


def axis_slot(name: str, k: int, **said: Any) -> Slot:
    """What the k-th axis from the last has, seen where the matrix is whole.

    Where one is turned over the last two axes change places.
    """
    other = {1: 2, 2: 1}.get(k, k)
    return Slot(f"{name}_{k}", **said, compress=False, owned=True, turned=f"{name}_{other}")


def renewed(
    follow: Callable[[Any, Any], Any],
    factors: Mapping[str, Array],
    bases: Mapping[str, Array],
    beside: Any,
    h: Any,
) -> tuple[Any, Any]:
    """The bases for the next step, and what goes along with them.

    They begin as eigenvectors at the first step. `follow(factors, (bases, beside))` makes both anew
    where it is their turn, see `in_shares`.
    """
    # A basis is a choice of coordinates: what is learnt in them has a derivative, they have none.
    factors, bases = jax.lax.stop_gradient((factors, bases))
    due, renew = in_shares(follow, factors, (bases, beside), h.turn, h.update_every, h.spread)

    def keep() -> Any:
        return bases, beside

    def begin() -> Any:
        # One after the other: it happens once, and what all need at once would stay reserved.
        return {name: jax.lax.map(eigenbasis, x) for name, x in factors.items()}, beside

    which = jnp.where(h.first, 1, jnp.where(due, 2, 0))
    return jax.lax.switch(which, [keep, begin, renew])  # type: ignore[no-any-return]


def in_bases(x: Array, bases: Mapping[str, Array], *, back: bool = False) -> Array:
    """A stack of matrices in the bases of their sides; with `back` as they are."""
    for name, q in bases.items():
        turn = functools.partial(in_basis, axis=SIDES[name], back=back)
        x = jax.vmap(lambda x, q, turn=turn: turn(x, q=q))(x, q)
    return x
