"""Many tensors on one device, each through the linear algebra once: those of a shape as a stack.

Or, where `batch` says itself what is done to all at once, each leaf's as a stack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.algebra import Algebra, Kept

Lead = tuple[int, ...]


def on_device(
    algebra: Algebra,
    xs: Sequence[Array],
    kept: Sequence[Kept],
    leads: Sequence[Lead] | None = None,
) -> tuple[list[Array], list[Kept]]:
    """What becomes of each array of tensors, and of what is kept beside it.

    Its axes are those that number them, `leads`, and theirs: two, where nothing is said.
    """
    leads = [x.shape[:-2] for x in xs] if leads is None else leads
    results: dict[int, Array] = {}
    after: dict[int, Kept] = {}
    of_shape: dict[Any, list[int]] = {}
    for i, x in enumerate(xs):
        shape = x.shape[len(leads[i]) :]
        of_shape.setdefault((shape[::-1] if algebra.turns(x) else shape, x.dtype), []).append(i)
    numbers = algebra.numbers_for(len(xs)) if algebra.yields else []
    for members in of_shape.values():
        of = [xs[i] for i in members], [kept[i] for i in members], [leads[i] for i in members]
        if algebra.yields:
            done = _side_by_side(algebra, *of, [numbers[i] for i in members])
        else:
            done = _here(algebra, *of)
        results |= zip(members, done[0], strict=True)
        after |= zip(members, done[1], strict=True)
    return [results[i] for i in range(len(xs))], [after[i] for i in range(len(xs))]


def _side_by_side(
    algebra: Algebra, xs: list[Array], kept: list[Kept], leads: list[Lead], numbers: list[Any]
) -> tuple[list[Array], list[Kept]]:
    """Those of one shape, each leaf's by themselves but for what `batch` yields."""
    rows = zip(kept, leads, strict=True)
    stacks = [_flat(x, lead) for x, lead in zip(xs, leads, strict=True)]
    own = [{k: _flat(x, lead) for k, x in mine.items()} for mine, lead in rows]
    done = zip(algebra.of_all(stacks, own, numbers), xs, kept, strict=True)
    found = [
        (y.reshape(x.shape), {k: new[k].reshape(old.shape) for k, old in mine.items()})
        for (y, new), x, mine in done
    ]
    return [y for y, _ in found], [new for _, new in found]


def _here(
    algebra: Algebra, xs: list[Array], kept: list[Kept], leads: list[Lead]
) -> tuple[list[Array], list[Kept]]:
    """Those of one shape, all at once."""
    # The barrier lets a leaf's kernel write what joins beside its slots; without it XLA
    # reads gradient and slots again to stack them.
    tall = [algebra.turns(x) for x in xs]
    stack = _stacked(_turned(jax.lax.optimization_barrier(xs), tall), leads)
    # Matrices of one shape have the same slots; not all shapes need have all.
    columns = {k: [own[k] for own in kept] for k in kept[0]}
    like = [k for k in columns if algebra.owned[k]]
    columns |= {k: _turned(columns[k], tall) for k in like}
    y, new = algebra(stack, {k: _stacked(x, leads) for k, x in columns.items()}, algebra.arrays)
    each = {k: _parted(x, leads) for k, x in new.items()}
    each |= {k: _turned(each[k], tall) for k in like}
    rows = [{k: x[i] for k, x in each.items()} for i in range(len(xs))]
    return _turned(_parted(y, leads), tall), rows


def _turned(xs: Sequence[Array], tall: Sequence[bool]) -> list[Array]:
    return [x.mT if over else x for x, over in zip(xs, tall, strict=True)]


def _flat(x: Array, lead: Lead) -> Array:
    """An array whose leading axes number what it holds, with one axis for them."""
    return x.reshape(math.prod(lead), *x.shape[len(lead) :])


def _stacked(xs: Sequence[Array], leads: Sequence[Lead]) -> Array:
    """Arrays whose leading axes number what they hold, as one."""
    return jnp.concatenate([_flat(x, lead) for x, lead in zip(xs, leads, strict=True)])


def _parted(x: Array, leads: Sequence[Lead]) -> list[Array]:
    found: list[Array] = []
    at = 0
    for lead in leads:
        count = math.prod(lead)
        found.append(x[at : at + count].reshape(*lead, *x.shape[1:]) if lead else x[at])
        at += count
    return found
