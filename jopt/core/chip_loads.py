"""Steps of many matrices on a TPU: as many at a time as its chip holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import Array

from jopt.core.leaf import Leaf, Outcome
from jopt.core.side_by_side import behind_steps
from jopt.core.stack import Stack

ON_CHIP = 16 * 2**20
"""So many bytes of matrices of a shape go through products at once on a TPU: more of them would
go to the main memory and back between one product and the next."""

Arrays = tuple[Array, dict[str, Array], Array | None]
"""Gradient, slots and parameter of a leaf."""
Pair = tuple[Any, Mapping[str, Any]]
"""The update of a leaf, and its new slots."""


def loads_of(xs: Sequence[Array]) -> list[list[int]]:
    """Which of these arrays of matrices, `(*lead, m, n)`, go through products together.

    They are of one shape, and of what is left of it when they are too many, nearly as many.
    """
    alike: dict[object, list[int]] = {}
    for i, x in enumerate(xs):
        alike.setdefault((x.shape[-2:], x.dtype), []).append(i)
    found = []
    for members in alike.values():
        first = xs[members[0]]
        fit = max(1, ON_CHIP // max(first.size * first.dtype.itemsize, 1))
        count, ends = len(members), -(-len(members) // fit)
        found += [members[count * i // ends : count * (i + 1) // ends] for i in range(ends)]
    return found


def load_by_load(
    loads: Sequence[Sequence[int]],
    leaves: Sequence[Leaf],
    run: Callable[[Sequence[Leaf]], Sequence[Outcome]],
    steps: bool,
) -> list[Pair]:
    """What `run` gives of all leaves, which are of one age, one load after the other.

    **Arguments:** `steps`: whether parameters are moved by what comes out.
    """

    @functools.partial(jax.jit, static_argnums=0)  # loads that are alike are traced once
    def ran(stacks: tuple[Stack | None, ...], arrays: list[Arrays]) -> list[Pair]:
        like = zip(stacks, arrays, strict=True)
        of = [first.but(stack=stack, g=g, slots=s, p=p) for stack, (g, s, p) in like]
        return [(x.update, x.slots) for x in run(of)]

    first = leaves[0]  # whose numbers are those of all
    done: dict[int, Pair] = {}
    before: list[tuple[Array | None, Array]] = []
    for load in loads:
        mine = [leaves[i] for i in load]
        later = behind_steps([x.g for x in mine], *before)
        given = [(g, dict(x.slots), x.p) for x, g in zip(mine, later, strict=True)]
        done |= zip(load, ran(tuple(x.stack for x in mine), given), strict=True)
        before = [(leaves[i].p if steps else None, done[i][0]) for i in load]
    return [done[i] for i in range(len(leaves))]
