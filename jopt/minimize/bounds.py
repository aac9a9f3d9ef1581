"""The bounds of `minimize`, checked and laid out like the parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.base import TreeError
from jopt.core.checks import as_values
from jopt.core.entrance import wrong
from jopt.core.tree import Tree, layout_of
from jopt.numerics import is_complex, real_dtype


def laid_bounds(x0: Tree, bounds: Any) -> tuple[Tree, Tree]:
    """The lower and the upper bound of every entry, as trees like `x0`."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        expected = "(lower, upper), each a number, a tree like x0's, or None"
        raise wrong("minimize", "bounds= is no pair", expected, bounds)
    low = _side(x0, bounds[0], -np.inf, "bounds[0]")
    high = _side(x0, bounds[1], np.inf, "bounds[1]")
    layout = layout_of("minimize", x0)
    for name, a, b in zip(layout.names, *map(jax.tree.leaves, (low, high)), strict=True):
        known = not isinstance(a, jax.core.Tracer) and not isinstance(b, jax.core.Tracer)
        # By NumPy: within `jax.jit` what jnp makes of known numbers is traced.
        if known and not np.all(np.asarray(a) <= np.asarray(b)):
            raise TreeError(
                "minimize",
                "a lower bound is above the upper one, or no number",
                path=name,
                expected="lower ≤ upper",
                found=f"{np.asarray(a)} and {np.asarray(b)}"[:100],
            )
    return low, high


def _side(x0: Tree, side: Any, none: float, what: str) -> Tree:
    layout = layout_of("minimize", x0)
    leaves = jax.tree.leaves(x0)
    if side is None or (not isinstance(side, dict | tuple | list) and np.ndim(side) == 0):
        given = [side] * len(leaves)
    else:
        try:
            given = layout.treedef.flatten_up_to(side)
        except ValueError:
            expected = f"a number, None, or a tree like x0's: {layout.treedef}"
            raise wrong("minimize", f"{what} has not the structure of x0", expected, side) from None
    made = [_leaf(n, x, b, none, what) for n, x, b in zip(layout.names, leaves, given, strict=True)]
    return layout.treedef.unflatten(made)


def _leaf(name: str, x: Array, bound: Any, none: float, what: str) -> Array:
    if bound is None:
        return jnp.full(x.shape, none, real_dtype(x.dtype))
    path = f"{what}/{name}" if name else what
    value = as_values("minimize", path, bound)
    if is_complex(x.dtype) or is_complex(value.dtype):
        raise TreeError(
            "minimize",
            "complex numbers have no order",
            path=path,
            expected="None for this leaf",
            found=x.dtype,
            fix="Give real and imaginary parts as two leaves.",
        )
    if value.shape != x.shape and value.shape:
        raise TreeError(
            "minimize",
            "a bound has another shape",
            path=path,
            expected=f"a number, or shape {list(x.shape)}",
            found=f"shape {list(value.shape)}",
        )
    return jnp.broadcast_to(value.astype(x.dtype), x.shape)
