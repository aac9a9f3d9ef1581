"""Numbers that leaves read in common, in one array."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.checks import is_sparse
from jopt.numerics import cast, number_dtype, wide_sum
from jopt.numerics.explicit import stacked
from jopt.numerics.pieces import SMALL
from jopt.numerics.repeated import traced

TOGETHER = 8
"""So many leaves of one shape read one array, and run in one kernel. A larger kernel saves hardly
anything more when it runs, and compilers take more than twice the time for twice the kernel."""

_alone: ContextVar[bool] = ContextVar("alone", default=False)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Numbers:
    """What all leaves of one age read in a step: numbers in one array, and what is no number.

    XLA runs leaves of one shape in one kernel if they read an array in common; a scalar in
    common is not enough. It is also one argument to each leaf's rule, where scalars are many.
    """

    row: Array | None
    names: tuple[str, ...] = field(metadata={"static": True})
    rest: dict[str, Any]
    own: Array | None = None

    def read(self) -> dict[str, Any]:
        """Everything by name, each number a scalar."""
        return self._read(self.row)

    def read_alone(self) -> dict[str, Any]:
        """The same, from the leaf's own array, if it has one."""
        return self._read(self.row if self.own is None else self.own)

    def _read(self, row: Array | None) -> dict[str, Any]:
        if row is None:
            return self.rest
        return self.rest | dict(zip(self.names, _entries(row), strict=True))

    def apart(self, count: int) -> list[Numbers]:
        """The same so many times, in arrays that XLA takes for different ones; see `TOGETHER`."""
        if self.row is None:
            return [self] * count
        return [replace(self, row=row) for row in apart(self.row, count)]

    @staticmethod
    def of(scalars: dict[str, Any]) -> Numbers:
        """These, as they are."""
        return Numbers(None, (), scalars)


NONE = Numbers.of({})


def apart(x: Any, count: int) -> list[Any]:
    """`x`, arrays, so many times, in arrays that XLA takes for different ones; see `TOGETHER`.

    On GPUs alone: a TPU would copy it as often.
    """

    def copies(x: Any) -> list[Any]:
        made: list[Any] = jax.lax.optimization_barrier([x] * count)
        return made

    if count < 2:
        return [x] * count
    found: list[Any] = jax.lax.platform_dependent(
        x, cuda=copies, rocm=copies, default=lambda x: [x] * count
    )
    return found


def written(x: Any) -> Any:
    """`x`, arrays, as they lie in memory: whoever reads them does not make them anew.

    On GPUs alone.
    """
    return jax.lax.platform_dependent(
        x,
        cuda=jax.lax.optimization_barrier,
        rocm=jax.lax.optimization_barrier,
        default=lambda x: x,
    )


def for_each(h: Mapping[str, Any], leaves: Sequence[Array]) -> tuple[list[Any], list[Any]]:
    """These numbers for each leaf, in its dtype, as attributes: for its slots and for its sums.

    A GPU writes a slot over the old one in the kernel that reduces if that has one leaf, which so
    reads no array in common with others, and if what is summed is made of the old slot, not read
    from the new one: it is made twice, of numbers that the compiler takes for different ones.
    Whatever can be made of numbers alone should be among them. What they cost in the kernel makes
    XLA write down what it would else not.
    """
    rows = side_by_side(h).apart(2 * len(leaves))
    seen = [
        SimpleNamespace(**{k: cast(jnp.asarray(n), x.dtype) for k, n in row.read().items()})
        for row, x in zip(rows, (*leaves, *leaves), strict=True)
    ]
    return seen[: len(leaves)], seen[len(leaves) :]


def behind_steps(g: Any, *steps: tuple[Array | None, Any]) -> Any:
    """`g`, for a TPU not to read before the leaves before it are stepped: each `p`, moved by `u`.

    What reads an array more than once then finds it on the chip, which holds some leaves and not
    all: without that XLA begins all of them before it ends one. `g` waits for the very sum that is
    the new parameter, if there is one; for the update alone XLA would write it down. Nor does the
    parameter wait: it would be read twice, as what is in order and as what is not.
    """

    def later(g: Any, steps: Any) -> Any:
        moved = [
            u if p is None or is_sparse(u) else cast(wide_sum(p, u), p.dtype) for p, u in steps
        ]
        return jax.lax.optimization_barrier((g, moved))[0]

    if not steps or not traced(g):
        return g
    return jax.lax.platform_dependent(g, steps, tpu=later, default=lambda g, _: g)


def in_turns(shapes: Iterable[Any], apart: bool = False) -> list[int]:
    """For each of these leaves which array it reads, from 0: `TOGETHER` of one shape read one.

    Whatever leaves read in common goes by these turns. One that reads an array with these and
    another one with those would tie all of them together: kernels would be of many kinds, and
    each kind is compiled.
    """
    alike: Counter[Any] = Counter()
    found = []
    for shape in shapes:
        alone = (apart or _alone.get()) and math.prod(shape) > SMALL
        found.append(alike[shape] // (1 if alone else TOGETHER))
        alike[shape] += 1
    return found


@contextlib.contextmanager
def each_alone() -> Iterator[None]:
    """Within it large leaves get kernels of their own, each of which may have one reduction.

    With a second one XLA writes nothing in place any more: it copies.
    """
    before = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(before)


def handed_out(
    shared: Mapping[Any, Numbers],
    ages: Sequence[Any],
    shapes: Sequence[Any],
    alone: bool | Literal["alone"] = False,
) -> list[Numbers]:
    """The numbers of each leaf, by its age, in arrays for some of one shape; see `in_turns`.

    With `alone` each leaf has an array of its own, too, for what it does not do beside others.
    """
    of_age: dict[Any, list[int]] = {}
    for i, age in enumerate(ages):
        of_age.setdefault(age, []).append(i)
    found: dict[int, Numbers] = {}
    for age, members in of_age.items():
        turns = in_turns((shapes[i] for i in members), alone == "alone")
        own = shared[age].apart(max(turns) + 1)
        found |= {i: own[turn] for i, turn in zip(members, turns, strict=True)}
        if alone:
            each = shared[age].apart(len(members))
            found |= {i: replace(found[i], own=x.row) for i, x in zip(members, each, strict=True)}
    return [found[i] for i in range(len(ages))]


def side_by_side(h: Mapping[str, Any]) -> Numbers:
    """These entries, the numbers among them (not keys, `None`, trees) put into one array."""
    dtype = number_dtype()
    numbers = {
        k: x for k, x in h.items() if isinstance(x, Array) and x.shape == () and x.dtype == dtype
    }
    rest = {k: x for k, x in h.items() if k not in numbers}
    return Numbers(_row([*numbers.values()]) if numbers else None, tuple(numbers), rest)


@jax.jit  # one equation for all of them
def _entries(row: Array) -> list[Array]:
    return [jax.lax.index_in_dim(row, i, keepdims=False) for i in range(row.shape[0])]


@jax.jit
def _row(numbers: list[Array]) -> Array:
    # The barrier keeps XLA from looking through the array. A TPU runs no kernels together, and has
    # scalars in a memory of their own: what reads them from an array there needs room beside.
    row: Array = jax.lax.platform_dependent(
        stacked(numbers), tpu=lambda x: x, default=jax.lax.optimization_barrier
    )
    return row
