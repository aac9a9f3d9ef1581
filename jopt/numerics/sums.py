"""Inner products and norms over lists of arrays that are read once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from jopt.numerics.dtypes import cast, compute_dtype, real_dtype, widest
from jopt.numerics.norms import add_up, scaled_norm, sums_after
from jopt.numerics.pieces import ALIKE, BLOCKS, LONG, Cut, Each, in_pieces
from jopt.numerics.ranges import RANGES, of_ranges
from jopt.numerics.roots import safe_sqrt
from jopt.numerics.vectors import Vector, vector_dot, vector_l1


class Dot(NamedTuple):
    """x·y."""

    x: Any
    y: Any


class L1(NamedTuple):
    """‖x‖₁."""

    x: Any


class Norm(NamedTuple):
    """f and ‖f·x‖₂, see `scaled_norm`."""

    x: Any


Asked = Dot | L1 | Norm


def together(*asked: Asked, bare: bool = False) -> list[Any]:
    """What is asked for of vectors of real numbers, all of the same shapes.

    A CPU makes one after the other: it has no loops of several results. Elsewhere one kernel an
    array makes pieces of all the sums there are. For that a vector that is asked for twice must be
    the same list. `bare` says that no slots are written there.
    """
    vectors: list[Vector] = [*{id(x): x for one in asked for x in one}.values()]
    at = {id(x): i for i, x in enumerate(vectors)}
    which = [type(one)(*(at[id(x)] for x in one)) for one in asked]

    def alone(vectors: list[Vector]) -> list[Any]:
        return [_alone(one, *(vectors[i] for i in one)) for one in which]

    def at_once(cut: Cut) -> Callable[[list[Vector]], list[Any]]:
        return lambda vectors: _at_once(which, vectors, cut)

    @jax.custom_jvp
    def run(vectors: list[Vector]) -> list[Any]:
        found: list[Any] = jax.lax.platform_dependent(
            vectors, cpu=alone, tpu=at_once(BLOCKS), default=at_once(LONG if bare else ALIKE)
        )
        return found

    @run.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        return run(*primals), jax.jvp(alone, primals, tangents)[1]

    # No tangent at all of the factors, as in `scaled_norm`.
    return [
        (jax.lax.stop_gradient(found[0]), found[1]) if isinstance(one, Norm) else found
        for one, found in zip(which, run(vectors), strict=True)
    ]


def _alone(one: Asked, *vectors: Vector) -> Any:
    if isinstance(one, Dot):
        return vector_dot(*vectors)
    return vector_l1(*vectors) if isinstance(one, L1) else scaled_norm(*vectors)


def _at_once(which: Sequence[Asked], vectors: list[Vector], cut: Cut) -> list[Any]:
    own = [widest(*(compute_dtype(real_dtype(a.dtype)) for a in x)) for x in vectors]
    wide = widest(*own)
    sides = [tuple(cast(a, wide) for a in side) for side in zip(*vectors, strict=True)]
    each = [f for one in which for f in _summands(one)]
    totals = iter(in_pieces(sides, each, add_up, cut, sums_after))
    found: list[Any] = []
    for one in which:
        dtype = widest(*(own[i] for i in one))
        sums = [cast(next(totals), dtype) for _ in _summands(one)]
        if isinstance(one, Norm):
            ordinary, small, large = sums
            size = sum(a.size for a in vectors[one.x])
            factor, total = of_ranges(ordinary, small, large, size)
            found.append((factor, safe_sqrt(total)))
        else:
            found += sums
    return found


def _summands(one: Asked) -> Sequence[Each]:
    if isinstance(one, Dot):
        return [lambda *entries: entries[one.x] * entries[one.y]]
    if isinstance(one, L1):
        return [lambda *entries: jax.lax.abs(entries[one.x])]
    return [lambda *entries, f=f: f(entries[one.x]) for f in RANGES]
