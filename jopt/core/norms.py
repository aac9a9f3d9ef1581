"""Norms of trees, for users: the same arithmetic as that of the transforms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import TreeError
from jopt.core.checks import as_values
from jopt.core.tree import Tree, layout_of
from jopt.numerics import norms


def global_norm(tree: Tree) -> Array:
    """‖(x₁, x₂, …)‖₂ over every entry of every leaf, in at least float32; 0 for no leaves.

    It is right for all finite entries, also where their squares are out of range, and infinite
    where an entry is. A complex entry counts |x|², `None` nothing.

    **Arguments:** `tree`: any pytree of arrays and numbers.

    >>> import jax.numpy as jnp, jopt
    >>> print(jopt.global_norm({"a": jnp.array([3e30, 0.0]), "b": jnp.float32(4e30)}))
    5e+30
    """
    _, leaves = _leaves("global_norm", tree)
    return norms.global_norm(leaves)


def leaf_norms(tree: Tree) -> Any:
    """‖x‖₂ of each leaf, in the containers of the tree; see `jopt.global_norm`.

    **Arguments:** `tree`: any pytree of arrays and numbers.

    >>> import jax.numpy as jnp, jopt
    >>> jopt.leaf_norms({"a": jnp.array([3.0, 4.0]), "b": jnp.float32(-2.0)})
    {'a': Array(5., dtype=float32), 'b': Array(2., dtype=float32)}
    """
    treedef, leaves = _leaves("leaf_norms", tree)
    factors, scaled = norms.scaled_norms(leaves)
    return treedef.unflatten([n / f for f, n in zip(factors, scaled, strict=True)])


def all_finite(tree: Tree) -> Array:
    """Whether no entry of any leaf is infinite or NaN; true for no leaves.

    **Arguments:** `tree`: any pytree of arrays and numbers.

    >>> import jax.numpy as jnp, jopt
    >>> jopt.all_finite({"a": jnp.array([1.0, jnp.inf])})
    Array(False, dtype=bool)
    """
    return norms.all_finite(_leaves("all_finite", tree)[1])


def _leaves(who: str, tree: Tree) -> tuple[Any, list[Array]]:
    layout = layout_of(who, tree)
    named = zip(layout.names, jax.tree.leaves(tree), strict=True)
    leaves = [as_values(who, name, x) for name, x in named]
    for name, x in zip(layout.names, leaves, strict=True):
        if not jnp.issubdtype(x.dtype, jnp.number):
            raise TreeError(
                who, "a leaf has no numbers", path=name, expected="numbers", found=x.dtype
            )
    floating = jnp.result_type(float)
    whole = [not jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    return layout.treedef, [
        jnp.asarray(x, floating if n else None) for x, n in zip(leaves, whole, strict=True)
    ]
