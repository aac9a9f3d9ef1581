"""What rules keep for each side of a matrix: square arrays, and a basis to see it in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.declared import Options, Shape, Slot
from jopt.numerics import (
    Together,
    all_of,
    as_one,
    eigenbasis,
    gram,
    in_basis,
    in_rows,
    in_shares,
    once_if,
)

SIDES = ("short", "long")


def axis_of(name: str, x: Array) -> int:
    """The axis of a side of a matrix, or of those of a stack: of a square one rows are short."""
    tall = x.shape[-2] > x.shape[-1]
    return -1 if (name == "long") != tall else -2


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
    follow: Callable[[Any, Any], Any], of: Sequence[tuple[Any, Any, Any]], h: Any
) -> list[Any]:
    """The bases for the next step, and what goes along with them, of each of these stacks.

    Each is of factors, bases, and what goes along. Bases begin as eigenvectors at the first step,
    and what goes along as 0: were it passed on, both ways would be copied, see `once_if`.
    `follow(factors, (bases, beside))` makes both anew where it is their turn, see `in_shares`.
    """
    # A basis is a choice of coordinates: what is learnt in them has a derivative, they have none.
    factors = [jax.lax.stop_gradient(factors) for factors, _, _ in of]
    held = [(jax.lax.stop_gradient(bases), beside) for _, bases, beside in of]
    due, renew = in_shares(follow, factors, h.turn, h.update_every, h.spread)

    def begin(held: Any) -> Any:
        # One after the other: it happens once, and what all need at once would stay reserved.
        first = as_one(lambda of: {name: jax.lax.map(eigenbasis, x) for name, x in of.items()})
        none = [jax.tree.map(jnp.zeros_like, beside) for _, beside in held]
        return [*zip(first(factors), none, strict=True)]

    def now(held: Any) -> Any:
        # Each way by itself: decompositions are turned over as they are taken apart.
        ways = [lambda held: in_rows(renew(held)), lambda held: in_rows(begin(held))]
        return jax.lax.switch(h.first.astype(jnp.int32), ways, held)

    after: list[Any] = once_if(h.first | due, now, held)
    return after


def in_bases(x: Array, bases: Mapping[str, Array], *, back: bool = False) -> Array:
    """A stack of matrices in the bases of their sides; with `back` as they are."""
    for name, q in bases.items():
        turn = functools.partial(in_basis, axis=axis_of(name, x), back=back)
        x = jax.vmap(lambda x, q, turn=turn: turn(x, q=q))(x, q)
    return x


def grams_of(x: Array, name: str) -> Array:
    """What each matrix of a stack has in common with itself along a side."""
    return jax.vmap(lambda g: gram(g, axis_of(name, g) + 2))(x)


def of_one(batch: Callable[..., Together], g: Array, s: Any, h: Any) -> tuple[Array, Any]:
    """What becomes of one parameter, as a stack of one, and its new slots."""
    own = SimpleNamespace(**{name: x[None] for name, x in vars(s).items()})
    ((d, new),) = all_of([batch(g[None], own, h)])
    return d[0], {name: x[0] for name, x in new.items()}
