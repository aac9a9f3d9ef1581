"""The entries of the catalogue as subjects of the laws in `jopt.testing`; what other tests need.

Each law stands there, once; the files here say which entries are asked which, and hold what is
jopt's alone.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jopt
from jopt.core.spec import REGISTRY
from jopt.testing import compare
from jopt.testing.subject import SHAPES, Subject, drawn, in_rows, is_shape
from tests.catalog import CATALOG, Entry

each = pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)

REAL = ("float64", "float32", "bfloat16", "float16")


def shapes_of(entry: Entry) -> Any:
    """The shape of a leaf of each rank the entry takes (the default tree: three leaves)."""
    fit = jax.tree.map(lambda s: s if len(s) in entry.ndims else None, SHAPES, is_leaf=is_shape)
    return pruned(fit)


def pruned(tree: Any) -> Any:
    """The tree without its `None`s."""
    if not isinstance(tree, dict):
        return tree
    kept = {k: pruned(v) for k, v in tree.items()}
    return {k: v for k, v in kept.items() if v is not None and not (isinstance(v, dict) and not v)}


@functools.lru_cache(maxsize=64)
def _subject(entry_name: str, tx: jopt.Transform, decays: bool) -> Subject:
    entry = next(e for e in CATALOG if e.name == entry_name)
    alone = REGISTRY[entry_name].elementwise
    return Subject(tx, shapes_of(entry), elementwise=alone, decays=decays)


def subject(entry: Entry, tx: jopt.Transform | None = None, *, decays: bool = True) -> Subject:
    """An entry as a law sees it; equal transforms share one, and its program."""
    return _subject(entry.name, entry.make() if tx is None else tx, decays)


def params_of(entry: Entry, dtype: Any = "float32", *, seed: int = 0, scale: float = 1.0) -> Any:
    """A nested dict with a leaf of each rank the entry takes."""
    return drawn(shapes_of(entry), dtype, seed, scale)


def is_sparse(entry: Entry) -> bool:
    return REGISTRY[entry.name].sparse == "rows"


def given(entry: Entry, grads: Any) -> Any:
    """Dense gradients in the form the entry takes: rows of a sparse array, or as they are."""
    return in_rows(grads) if is_sparse(entry) else grads


def extras(tx: jopt.Transform, params: Any, grads: Any) -> dict[str, Any]:
    """A value for every extra argument that `tx` needs, consistent with the gradient."""
    return Subject(tx, None).extras(params, grads)


def step(entry: Entry, tx: jopt.Transform, params: Any, state: Any, grads: Any) -> Any:
    """One update and its application."""
    return subject(entry, tx).step(params, state, grads)


def stepper(entry_name: str, tx: jopt.Transform) -> Any:
    """`step`, compiled; equal transforms share one."""
    return _subject(entry_name, tx, True).compiled


def run(
    entry: Entry, tx: jopt.Transform, params: Any, state: Any, seeds: Any, *, scale: float = 1.0
) -> Any:
    """Some steps, the gradient of each drawn from its seed."""
    compiled = stepper(entry.name, tx)
    for seed in seeds:
        params, state = compiled(params, state, grads_like(entry, params, seed, scale))
    return params, state


def grads_like(entry: Entry, params: Any, seed: int, scale: float = 1.0) -> Any:
    """Random gradients in the dtypes of `params`."""
    dtype = jax.tree.leaves(params)[0].dtype
    return params_of(entry, dtype, seed=seed + 1000, scale=scale)


def stacked(entry: Entry, params: Any, seeds: Any) -> Any:
    """The gradients of several steps, with a first axis for the step."""
    trees = [grads_like(entry, params, seed) for seed in seeds]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)


def assert_same_bits(a: Any, b: Any) -> None:
    """Equal structure, shapes, dtypes and bytes."""
    compare.same_bits("it", a, b)


def assert_close(a: Any, b: Any, rtol: float) -> None:
    """Equal structure; every leaf within `rtol` of its largest value."""
    compare.close("it", a, b, rtol)


def numbers(state: Any) -> list[tuple[str, str]]:
    """Every (label, name) of a number that can be set, of the default group."""
    return [
        (label, name)
        for label, groups in jopt.hyperparams(state).items()
        for name in groups["default"]
    ]


def other_number(label: str, name: str, value: Any) -> float:
    """A number near `value` that is another, and in its range."""
    hyper = REGISTRY[label].by_name[name]
    return next(v for v in (0.95 * float(value), 1.05 * float(value)) if hyper.allows(v))


def has_number(entry: Entry, name: str) -> bool:
    """Whether the transform of this entry keeps a number of this name."""
    state = jax.eval_shape(entry.make().init, params_of(entry))
    return any(name == found for _, found in numbers(state))
