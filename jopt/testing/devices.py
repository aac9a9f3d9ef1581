"""Laws of several devices: what is in pieces is what it would be whole."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jopt.core.tree import Tree
from jopt.testing.compare import close
from jopt.testing.law import BrokenError, law
from jopt.testing.subject import Subject


@law()
def sharded(subject: Subject, dtype: str) -> None:
    """Parameters in pieces on all devices step as whole ones, and what is kept of each is cut so.

    In float64: sums over an axis in pieces round differently, and what divides by small
    differences makes much of that in float32.
    """
    mesh = Mesh(np.array(jax.devices()), ("d",))
    with subject.precision("float64"):
        params = subject.params("float64")
        whole = subject.run(params, subject.tx.init(params), range(3))
        pieces = jax.device_put(params, _rows(mesh, params))
        state = subject.tx.init(pieces)
        _cut_alike("init", state, pieces)
        for seed in range(3):
            grads = subject.grads("float64", seed)
            grads = jax.device_put(grads, _rows(mesh, grads))
            pieces, state = subject.compiled(pieces, state, grads)
            _cut_alike(f"step {seed + 1}", state, pieces)
        close("what is in pieces", (pieces, state), whole, rtol=1e-11)


def _rows(mesh: Mesh, tree: Tree) -> Any:
    """Every leaf in pieces along its first axis, where there are as many of one size."""

    def placed(x: Any) -> NamedSharding:
        even = x.ndim and x.shape[0] % mesh.size == 0
        return NamedSharding(mesh, PartitionSpec("d") if even else PartitionSpec())

    return jax.tree.map(placed, tree)


def _cut_alike(after: str, state: Any, params: Tree) -> None:
    """What mirrors the parameters in the state is in the pieces that they are in."""

    def shapes(tree: Tree) -> Any:
        return jax.tree.map(jnp.shape, tree)

    expected: Any = jax.tree.structure(params)

    def mirrors(x: Any) -> bool:
        return bool(jax.tree.structure(x) == expected) and bool(shapes(x) == shapes(params))

    for path, found in jax.tree.leaves_with_path(state, is_leaf=mirrors):
        if not mirrors(found):
            continue
        for x, p in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
            if not x.sharding.is_equivalent_to(p.sharding, p.ndim):
                raise BrokenError(
                    f"what is kept of a parameter after {after} is not in its pieces",
                    path=jax.tree_util.keystr(path),
                    expected=p.sharding,
                    found=x.sharding,
                )
