"""A rule on one leaf, or on each tensor of one: what it sees, and what becomes of its result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.core.ending import Ending
from jopt.core.leaf import Leaf, Outcome
from jopt.core.rules import ruled
from jopt.core.side_by_side import Numbers
from jopt.core.stack import Held, Stack
from jopt.numerics import as_complex, as_pairs, cast, compute_dtype, is_complex, real_dtype, widest
from jopt.numerics.repeated import in_batches, traced

Rule = Callable[[Any, Any, Any, Any], tuple[Any, dict[str, Any]]]
"""`rule(g, s, p, h)`: a direction (or a step) and the new slots, see `jopt.leafwise`."""


def _apply(
    rule: Rule,
    ending: Ending,
    options: tuple[tuple[str, Any], ...],
    g: Array,
    slots: dict[str, Array],
    p: Array | None,
    h: Numbers,
) -> tuple[Array, dict[str, Array]]:
    """One rule on one leaf: the update, and the new slots."""
    gv, sv, pv = view(g, slots, p)
    like = g if p is None else p
    known = dict(options) | {"dtype": real_dtype(like.dtype), "ndim": like.ndim}
    of_rule, around = (
        cast_numbers(read(), real_dtype(gv.dtype)) | known for read in (h.read_alone, h.read)
    )
    seen = SimpleNamespace(**around)
    shown = SimpleNamespace(**ending.numbers(of_rule))
    own = ending.of_rule(sv)
    d, new = ruled(rule, own, ending.start(gv, pv, seen), SimpleNamespace(**own), pv, shown)
    new |= ending.kept(sv)
    return unview(g, ending.finish(d, gv, new, pv, seen), new, slots)


apply_rule = jax.jit(_apply, static_argnums=(0, 1, 2))
"""One rule on one leaf: the update, and the new slots."""
_apply_inline = jax.jit(_apply, static_argnums=(0, 1, 2), inline=True)


def applied(
    rule: Rule, ending: Ending, options: tuple[tuple[str, Any], ...], leaves: Sequence[Leaf]
) -> dict[int, Outcome]:
    """What comes out of those of the leaves that a trace need not see one by one, by places."""
    some = {i: x for i, x in enumerate(leaves) if traced(x.g) and not x.resting and x.stack is None}
    arrays = [(x.g, dict(x.slots), x.p) for x in some.values()]
    kinds = [x.g.shape for x in some.values()]

    def by(run: Callable[..., Any]) -> Callable[[Any, Any], Any]:
        return lambda arrays, numbers: run(rule, ending, options, *arrays, numbers)

    numbers = [x.numbers for x in some.values()]
    done = in_batches(by(_apply_inline), arrays, kinds, numbers, alone=by(apply_rule))
    return {i: Outcome(u, slots=new) for i, (u, new) in zip(some, done, strict=True)}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def apply_stack(
    rule: Rule,
    ending: Ending,
    options: tuple[tuple[str, Any], ...],
    held: Held,
    stack: Stack,
    g: Array,
    slots: dict[str, Array],
    p: Array | None,
    h: Numbers,
) -> tuple[Array, dict[str, Array]]:
    """One rule on each tensor of a leaf."""

    def one(g: Array, slots: dict[str, Array], p: Array | None) -> Any:
        return apply_rule(rule, ending, options, g, slots, p, h)

    seen = None if p is None else stack.apart(p)
    u, new = stack.mapped(one)(stack.apart(g), held.parted(stack, slots), seen)
    return stack.together(u, like=g), held.joined(stack, new, slots)


def view(
    g: Array, slots: Mapping[str, Array], p: Array | None
) -> tuple[Array, dict[str, Array], Array | None]:
    """A leaf as rules see it: in at least float32, complex numbers as pairs."""
    dtype = compute_dtype(g.dtype if p is None else widest(g.dtype, p.dtype))
    seen = None if p is None else as_pairs(cast(p, dtype))
    return as_pairs(cast(g, dtype)), {k: as_pairs(v) for k, v in slots.items()}, seen


def unview(
    g: Array, u: Array, new: dict[str, Array], old: Mapping[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """What a rule returned, with pairs as complex numbers again where they were before."""
    if not is_complex(g.dtype):
        return u, new
    return as_complex(u), {
        k: as_complex(v) if is_complex(old[k].dtype) else v for k, v in new.items()
    }


def cast_numbers(h: Mapping[str, Any], dtype: jnp.dtype) -> dict[str, Any]:
    """The numbers in the dtype of a leaf, so that no product changes the leaf's."""

    # Keys (of random numbers) keep their dtype; numbers and counts become the leaf's. A state that
    # a serializer gave back holds NumPy's.
    def one(x: Any) -> Any:
        if isinstance(x, Array | np.ndarray) and jnp.issubdtype(x.dtype, jnp.number):
            return cast(jnp.asarray(x), dtype)
        return x

    return {k: one(v) for k, v in h.items()}
