"""Who has a number last: the transform that was built with it, or an edit of the state.

A node keeps, beside its numbers, those that its transform was built with: `given`, one vector in
the order of group and name. A transform that was built with another number changed it last, so
that number rules, and is in the state from then on. One built with the same leaves the state's
number, and with it what `set_hyperparams` made of it. A traced number always rules: its value
cannot be known, and it may carry a derivative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.base import StateError, plain
from jopt.core.checks import OLD
from jopt.numerics import explicit, number_dtype

Key = tuple[str, str]
"""A number's group and name."""

KINDS = ("hyperparams", "times")
"""The entries of a node with numbers that no schedule sets."""

UNKNOWN = math.nan
"""What stands in `given` for a number of which nobody wrote that down: the state's stands."""


def as_vector(numbers: Mapping[Key, Any], dtype: Any = None) -> Any:
    """The numbers in their order, in one vector; a traced one without its derivative."""
    dtype = number_dtype() if dtype is None else dtype
    row = [plain(numbers[key]) for key in sorted(numbers)]
    if not any(isinstance(x, jax.core.Tracer) for x in row):
        return np.asarray(row, dtype)
    return explicit.stacked([jax.lax.stop_gradient(jnp.asarray(x, dtype)) for x in row])


def new_given(numbers: Mapping[Key, Any]) -> dict[str, Any]:
    """The `given` entry of a new node; none without numbers."""
    return {"given": jnp.asarray(as_vector(numbers))} if numbers else {}


def check_given(who: str, node: Mapping[str, Any], numbers: Mapping[Key, Any]) -> None:
    """Raise `StateError` unless a node has the vector for these numbers."""
    found, wanted = node.get("given"), (len(numbers),) if numbers else None
    shape = None if found is None else tuple(getattr(found, "shape", ()))
    floating = found is None or jnp.issubdtype(getattr(found, "dtype", int), jnp.floating)
    if shape != wanted or not floating:
        raise StateError(
            who,
            "this state does not say which numbers its transform was built with",
            path="given",
            expected="nothing" if wanted is None else f"floating, of shape {wanted}",
            found="nothing" if found is None else f"{getattr(found, 'dtype', found)} {shape}",
            fix=OLD if found is None else None,
        )


def known(who: str, node: Mapping[str, Any]) -> dict[Key, Any]:
    """What a node says its transform was built with, number by number."""
    keys = sorted(
        (group, name) for kind in KINDS for group, own in node.get(kind, {}).items() for name in own
    )
    row = node.get("given")
    shape = tuple(getattr(row, "shape", ()))
    floating = jnp.issubdtype(getattr(row, "dtype", int), jnp.floating)
    if row is not None and not (floating and shape[-1:] == (len(keys),)):
        raise StateError(
            who,
            "this state does not say which numbers its transform was built with",
            path="given",
            expected=f"a floating vector of {len(keys)}",
            found=f"{getattr(row, 'dtype', type(row).__name__)} {shape}",
        )
    return {} if row is None else {key: row[..., i] for i, key in enumerate(keys)}


def stacked(row: Sequence[Any], dtype: Any) -> Array:
    """A `given` entry of these numbers; those of many runs have a first axis."""
    return jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(x, dtype) for x in row)), axis=-1)


def ruling(
    held: Mapping[Key, Any], given: Any, numbers: Mapping[Key, Any]
) -> tuple[dict[Key, Array], Array]:
    """The numbers that rule, and the new `given`.

    **Arguments:** `held`, the numbers in the state; `given`, those that its transform was built
    with; `numbers`, those that the present one is built with, traced ones among them.
    """
    given = jnp.asarray(given)
    arrays = {k: jnp.asarray(held[k]) for k in sorted(held)}
    now = as_vector({k: numbers[k] for k in arrays}, given.dtype)
    kept, given = _compared([*arrays.values()], given, now)
    ruled = dict(zip(arrays, kept, strict=True))
    traced = {k: plain(numbers[k]) for k in arrays}
    for k, x in traced.items():
        if isinstance(x, jax.core.Tracer):
            ruled[k] = jnp.asarray(x, arrays[k].dtype)
    return ruled, given


def stands(given: Any, now: Any) -> Any:
    """Where a state's number stands: the transform was built with the same, or nobody knows."""
    same = (given == now) | (given != given)
    if given.dtype == np.float64:  # a state of float32 that was widened is of the same number
        same |= given == now.astype(np.float32).astype(given.dtype)
    return same


@jax.jit
def _compared(held: list[Array], given: Array, now: Array) -> tuple[list[Array], Array]:
    now = jnp.broadcast_to(now, given.shape)
    each = range(len(held))

    def at_once(given: Array, now: Array) -> list[Array]:
        same = stands(given, now)
        return [same[..., i] for i in each]

    def one_by_one(given: Array, now: Array) -> list[Array]:
        return [stands(given[..., i], now[..., i]) for i in each]

    # A TPU has scalars in a memory of their own, but not those from an array that it has made: a
    # kernel that reads such a one needs room beside.
    same = jax.lax.platform_dependent(given, now, tpu=one_by_one, default=at_once)
    kept = [jnp.where(same[i], x, now[..., i].astype(x.dtype)) for i, x in enumerate(held)]
    # Where they are equal the old one, so that it stays where it is: on which devices, that is.
    return kept, jax.lax.stop_gradient(jnp.where(given == now, given, now))
