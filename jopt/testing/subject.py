"""An optimizer as the laws see it: its parameters, its gradients, its step."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import doubles
from jopt.core import Transform, apply_updates
from jopt.core.part import SpecPart
from jopt.core.tree import Tree
from jopt.numerics import compute_dtype

# Leading axes of 8, so that every one but the scalar's divides among eight devices.
SHAPES: dict[str, Any] = {
    "scale": (),
    "layer": {"bias": (8,), "kernel": (8, 4), "square": (8, 8)},
    "conv": (8, 2, 3),
}

EXTRA = ("value", "grad", "value_fn", "sampled_fn", "hessian", "key")
"""The extra arguments of `update` that the laws can give."""


def is_shape(x: Any) -> bool:
    """Whether it is the shape of a leaf, no container."""
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def drawn(shapes: Tree, dtype: Any = "float32", seed: int = 0, scale: float = 1.0) -> Any:
    """A tree of normally distributed arrays of these shapes."""
    rng = np.random.default_rng(seed)

    def leaf(shape: tuple[int, ...]) -> Any:
        x = rng.normal(size=shape) * scale
        if np.issubdtype(jnp.dtype(dtype), np.complexfloating):
            x = x + 1j * rng.normal(size=shape) * scale
        return jnp.asarray(x, dtype)

    return jax.tree.map(leaf, shapes, is_leaf=is_shape)


def linear_with_a_bowl(params: Tree, grads: Tree) -> Any:
    """The function with this gradient at `params`: a plane, and a bowl around `params`."""

    def value_fn(at: Tree) -> Any:
        total = jnp.float32(0)
        for p, g, x in zip(*map(jax.tree.leaves, (params, grads, at)), strict=True):
            wide = compute_dtype(x.dtype)
            p, g, x = (y.astype(wide) for y in (p, g, x))
            slope, bowl = jnp.sum((g.conj() * (x - p)).real), jnp.sum(jnp.abs(x - p) ** 2)
            total = total + (slope + bowl).astype(jnp.float32)
        return total

    return value_fn


@dataclass(frozen=True, eq=False)
class Subject:
    """An optimizer, and what it is tried on.

    **Attributes:** `tx`; `shapes`, a tree of the shapes of its parameters; `extra`, the names of
    the extra arguments that its update needs; `elementwise`, whether it treats every entry alone;
    `decays`, whether parameters may move without a gradient.
    """

    tx: Any
    shapes: Tree
    extra: tuple[str, ...] = ()
    elementwise: bool = False
    decays: bool = True

    @property
    def ours(self) -> bool:
        """Whether it is a jopt transform."""
        return isinstance(self.tx, Transform)

    def is_it(self, claim: str) -> bool:
        """Whether it is what a law asks for."""
        return bool(getattr(self, claim))

    def precision(self, dtype: Any) -> contextlib.AbstractContextManager[Any]:
        """Where arrays of this dtype exist."""
        wide = jnp.dtype(dtype) in (np.dtype("float64"), np.dtype("complex128"))
        return doubles() if wide else contextlib.nullcontext()

    def params(self, dtype: Any = "float32", *, seed: int = 0, scale: float = 1.0) -> Any:
        """Parameters."""
        return drawn(self.shapes, dtype, seed, scale)

    def shape_list(self) -> list[tuple[int, ...]]:
        """The shapes alone."""
        return jax.tree.leaves(self.shapes, is_leaf=is_shape)

    def init_of(self, shapes: Tree, dtype: Any) -> Any:
        """The first state of parameters of other shapes."""
        return self.tx.init(drawn(shapes, dtype))

    def grads(self, dtype: Any, seed: int, scale: float = 1.0) -> Any:
        """Gradients of the same structure."""
        return drawn(self.shapes, dtype, seed + 1000, scale)

    def given(self, grads: Tree) -> Any:
        """Dense gradients in the form that it takes: rows of a sparse array, or as they are."""
        return in_rows(grads) if takes_rows(self.tx) else grads

    def extras(self, params: Tree, grads: Tree, value_fn: Any = None) -> dict[str, Any]:
        """A value for every extra argument that it needs, consistent with the gradient."""
        names = (*self.extra, *wanted(self.tx))
        if not names:
            return {}
        value = jnp.float32(1.0) if value_fn is None else value_fn(params)
        at = value_fn or linear_with_a_bowl(params, grads)
        known = {
            "value": value,
            "grad": grads,
            "value_fn": at,
            "sampled_fn": lambda x, key: at(x) * jax.random.uniform(key),
            "hessian": jax.tree.map(jnp.abs, grads),
            "key": jax.random.key(0),
        }
        return {name: known[name] for name in names}

    def update(self, params: Tree, state: Any, grads: Tree, value_fn: Any = None) -> Any:
        """The updates and the state after them."""
        extra = self.extras(params, grads, value_fn)
        return self.tx.update(self.given(grads), state, params, **extra)

    def step(self, params: Tree, state: Any, grads: Tree) -> Any:
        """The parameters and the state after one update."""
        updates, state = self.update(params, state, grads)
        return apply_updates(params, updates), state

    @functools.cached_property
    def compiled(self) -> Any:
        """`step`, compiled once."""
        return jax.jit(self.step)

    def run(
        self,
        params: Tree,
        state: Any,
        seeds: Iterable[int],
        *,
        dtype: Any = None,
        scale: float = 1.0,
    ) -> Any:
        """Some steps, the gradient of each drawn from its seed in the dtype of the parameters."""
        dtype = dtype or jax.tree.leaves(params)[0].dtype
        for seed in seeds:
            params, state = self.compiled(params, state, self.grads(dtype, seed, scale))
        return params, state


def _specs(tx: Any) -> list[Any]:
    parts = tx.parts.values() if isinstance(tx, Transform) else ()
    return [part.spec for part in parts if isinstance(part, SpecPart)]


def takes_rows(tx: Any) -> bool:
    """Whether the gradients of this transform are rows of sparse arrays."""
    return any(spec.sparse == "rows" for spec in _specs(tx))


def treats_entries_alone(tx: Any) -> bool:
    """Whether a jopt transform says of itself that it is elementwise."""
    specs = _specs(tx)
    return bool(specs) and len(specs) == len(tx.parts) and all(s.elementwise for s in specs)


def wanted(tx: Any) -> set[str]:
    """The extra arguments that the update of this transform needs."""
    return {name for part in getattr(tx, "parts", {}).values() for name in part.extra}


def dense(updates: Tree) -> Any:
    """Updates as arrays, also those that are rows of a sparse one."""
    return jax.tree.map(
        lambda u: u.todense() if hasattr(u, "todense") else u,
        updates,
        is_leaf=lambda u: hasattr(u, "todense"),
    )


def in_rows(grads: Tree) -> Any:
    """Dense gradients as sparse ones that have every row."""
    from jax.experimental.sparse import BCOO

    def rows(g: Any) -> Any:
        return BCOO.fromdense(g, nse=g.shape[0], n_dense=g.ndim - 1)

    return jax.tree.map(rows, grads)
