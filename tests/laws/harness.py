"""What every law needs: parameters and gradients that suit an entry, and a step to run it."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import jopt
from jopt.core.spec import REGISTRY
from jopt.numerics import compute_dtype
from tests.catalog import CATALOG, Entry

each = pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)

# Leading axes of 8, so that every one but the scalar's divides among eight devices.
SHAPES = {
    "scale": (),
    "layer": {"bias": (8,), "kernel": (8, 4), "square": (8, 8)},
    "conv": (8, 2, 3),
}
REAL = ("float64", "float32", "bfloat16", "float16")


def is_shape(x: Any) -> bool:
    return isinstance(x, tuple)


def params_of(entry: Entry, dtype: Any = "float32", *, seed: int = 0, scale: float = 1.0) -> Any:
    """A nested dict with a leaf of each rank the entry takes (the default tree: three leaves)."""
    rng = np.random.default_rng(seed)

    def leaf(shape: tuple[int, ...]) -> Any:
        if len(shape) not in entry.ndims:
            return None
        x = rng.normal(size=shape) * scale
        if np.issubdtype(jnp.dtype(dtype), np.complexfloating):
            x = x + 1j * rng.normal(size=shape) * scale
        return jnp.asarray(x, dtype)

    return pruned(jax.tree.map(leaf, SHAPES, is_leaf=is_shape))


def pruned(tree: Any) -> Any:
    """The tree without its `None`s."""
    if not isinstance(tree, dict):
        return tree
    kept = {k: pruned(v) for k, v in tree.items()}
    return {k: v for k, v in kept.items() if v is not None and not (isinstance(v, dict) and not v)}


def is_sparse(entry: Entry) -> bool:
    return REGISTRY[entry.name].sparse == "rows"


def given(entry: Entry, grads: Any) -> Any:
    """Dense gradients in the form the entry takes: rows of a sparse array, or as they are."""
    if not is_sparse(entry):
        return grads

    def rows(g: jax.Array) -> BCOO:
        return BCOO.fromdense(g, nse=g.shape[0], n_dense=g.ndim - 1)

    return jax.tree.map(rows, grads)


def wanted(tx: jopt.Transform) -> set[str]:
    """The extra arguments that this transform's update needs."""
    return {name for part in tx.parts.values() for name in part.extra}


def extras(tx: jopt.Transform, params: Any, grads: Any) -> dict[str, Any]:
    """A value for every extra argument that `tx` needs, consistent with the gradient at `params`.

    The function is the linear one with this gradient, plus a bowl around `params`.
    """

    def value_fn(at: Any) -> Any:
        total = jnp.float32(0)
        for p, g, x in zip(*map(jax.tree.leaves, (params, grads, at)), strict=True):
            wide = compute_dtype(x.dtype)
            p, g, x = (y.astype(wide) for y in (p, g, x))
            slope, bowl = jnp.sum((g.conj() * (x - p)).real), jnp.sum(jnp.abs(x - p) ** 2)
            total = total + (slope + bowl).astype(jnp.float32)
        return total

    known = {
        "value": jnp.float32(1.0),
        "grad": grads,
        "value_fn": value_fn,
        "sampled_fn": lambda at, key: value_fn(at) * jax.random.uniform(key),
        "hessian": jax.tree.map(jnp.abs, grads),
        "key": jax.random.key(0),
    }
    return {name: known[name] for name in wanted(tx)}


def step(entry: Entry, tx: jopt.Transform, params: Any, state: Any, grads: Any) -> Any:
    """One update and its application."""
    extra = extras(tx, params, grads)
    updates, state = tx.update(given(entry, grads), state, params, **extra)
    return jopt.apply_updates(params, updates), state


@functools.lru_cache(maxsize=64)
def stepper(entry_name: str, tx: jopt.Transform) -> Any:
    """`step`, compiled; equal transforms share one."""
    entry = next(e for e in CATALOG if e.name == entry_name)
    return jax.jit(lambda params, state, grads: step(entry, tx, params, state, grads))


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
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        where = jax.tree_util.keystr(path)
        assert (x.dtype, x.shape) == (y.dtype, y.shape), where
        assert x.tobytes() == y.tobytes(), where


def assert_close(a: Any, b: Any, rtol: float) -> None:
    """Equal structure; every leaf within `rtol` of its largest value."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape) == (y.dtype, y.shape), jax.tree_util.keystr(path)
        if x.size:
            bound = rtol * max(float(np.max(np.abs(y))), 1e-30)
            assert float(np.max(np.abs(x - y))) <= bound, jax.tree_util.keystr(path)


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
