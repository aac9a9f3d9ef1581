"""Metrics that come at updates without a step: what is kept of them for the next step.

`update(..., value=metric)` gives a metric to whatever wants one, such as a schedule. Where a
wrapper lets an update pass without a step, what it wraps is not there to see it. The wrapper then
keeps the sum and the number of the finite ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.extras import NO_NUMBERS
from jopt.numerics import number_dtype


def metrics_of(extra: Iterable[str]) -> frozenset[str]:
    """Those of these extra arguments that are metrics."""
    return frozenset(extra) - NO_NUMBERS


def none_kept(names: Iterable[str]) -> dict[str, Any]:
    """The `metrics` entry of a new node; no entry if there are none to keep."""
    kept = {k: {"sum": jnp.zeros((), number_dtype()), "number": jnp.int32(0)} for k in names}
    return {"metrics": kept} if kept else {}


def with_this(kept: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept, and the metrics of this update that are finite."""
    return {name: _plus(memory, extra.get(name)) for name, memory in kept.items()}


def mean(memory: Mapping[str, Array]) -> Array:
    """The mean of what is kept, NaN of nothing."""
    some = memory["number"] > 0
    number = jnp.where(some, memory["number"], 1).astype(memory["sum"].dtype)
    return jnp.where(some, memory["sum"] / number, jnp.nan)


def given(extra: Mapping[str, Any], name: str) -> bool:
    """Whether an update has this metric; whoever wants it complains of what is no number."""
    return extra.get(name) is not None and jnp.shape(extra[name]) == ()


def _plus(memory: Mapping[str, Array], value: Any) -> dict[str, Array]:
    if value is None or jnp.shape(value) != ():
        return dict(memory)
    x = jnp.asarray(value).astype(memory["sum"].dtype)
    finite = jnp.isfinite(x)
    total = memory["sum"] + jnp.where(finite, x, 0)
    return {"sum": total, "number": memory["number"] + finite.astype(jnp.int32)}
