"""Adding updates to parameters, and leaves to a state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jopt.base import TreeError
from jopt.core.checks import as_array, is_sparse
from jopt.core.rows import add_rows
from jopt.core.transform import State, Transform, stepped
from jopt.core.tree import Tree, layout_of, match_leaves
from jopt.numerics import compute_dtype, is_complex


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """p + u for every leaf, added in at least float32 and rounded once to the dtype of p.

    **Arguments:**

    - `params`: any pytree of arrays.
    - `updates`: the same structure; where it has `None` the parameter stays as it is.

    **Raises:** `TreeError` if structures or shapes differ, or a complex update meets a real
    parameter.

    >>> import jax.numpy as jnp
    >>> apply_updates({"w": jnp.float32(1.0)}, {"w": jnp.float32(-0.25)})
    {'w': Array(0.75, dtype=float32)}
    """
    layout = layout_of("apply_updates", params)
    steps = match_leaves("apply_updates", "the updates", layout, updates)
    leaves = [
        _add(name, p, u)
        for name, p, u in zip(layout.names, jax.tree.leaves(params), steps, strict=True)
    ]
    return layout.treedef.unflatten(leaves)


def _add(name: str, p: Any, u: Any) -> Any:
    if u is None:
        return p
    p = jnp.asarray(as_array("apply_updates", name, p))
    u = as_array("apply_updates", name, u)
    if tuple(u.shape) != tuple(p.shape):
        raise TreeError(
            "apply_updates",
            "an update has another shape than its parameter",
            path=name,
            expected=tuple(p.shape),
            found=tuple(u.shape),
        )
    if is_complex(u.dtype) and not is_complex(p.dtype):
        raise TreeError(
            "apply_updates",
            "an update is complex, its parameter is not",
            path=name,
            expected="a real update",
            found=u.dtype,
        )
    if is_sparse(u):
        return add_rows(p, u)
    if not jnp.issubdtype(p.dtype, jnp.inexact):  # a frozen integer: its update is zero
        return p
    wide = compute_dtype(p.dtype)
    return (p.astype(wide) + jnp.asarray(u).astype(wide)).astype(p.dtype)


def step(
    tx: Transform, updates: Tree, state: State, params: Tree, **extra: Any
) -> tuple[Tree, State]:
    """`update` and `apply_updates` in one: the next parameters, and the next state.

    The numbers are the same. What it spares is memory traffic: `accumulate` does not touch
    the parameters between its steps, where `update` gives zeros to be added.

    **Arguments:** as for `tx.update`.

    **Raises:** as `tx.update`, and `TreeError` without `params`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sgd(0.5)
    >>> params = {"w": jnp.float32(1.0)}
    >>> params, state = jopt.step(tx, {"w": jnp.float32(0.5)}, tx.init(params), params)
    >>> params
    {'w': Array(0.75, dtype=float32)}
    """
    if params is None:
        raise TreeError("step", "needs the parameters", fix="Call jopt.step(tx, grads, state, p).")
    flow = tx.flow(updates, state, params, extra)
    leaves, new = stepped(tx.parts, flow, state, _add)
    return flow.tree(leaves), new


def extend(tx: Transform, state: State, params: Tree) -> State:
    """The state for parameters that have gained leaves, or whose groups no longer freeze some.

    New leaves get fresh slots and start at step one; every other leaf's slots, the counters
    and the numbers stay bit-equal.

    **Arguments:**

    - `tx`: the transform for the new parameters; it may differ from the old one in its groups.
    - `state`: the old state.
    - `params`: the new parameters, all of them.

    **Raises:** `StateError` if the state knows leaves that are no longer there, or belongs to
    another transform.
    """
    return tx.extend(state, params)
