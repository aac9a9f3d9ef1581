"""Adding updates to parameters."""

from __future__ import annotations

import zlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jopt.base import ConfigError, TreeError, is_one_of
from jopt.core.boxes import put_on, taken_off
from jopt.core.checks import as_values, is_sparse
from jopt.core.entrance import check_key
from jopt.core.offloaded import entered, left
from jopt.core.row import stepped
from jopt.core.sparse_rows import add_rows
from jopt.core.transform import ENTRYWISE, Add, Leaves, State, T, Transform, check_transform
from jopt.core.tree import Layout, Tree, layout_of, match_leaves
from jopt.numerics import cast, is_complex, is_narrow, stochastic, wide_sum

Rounding = Literal["nearest", "stochastic"]
"""How the sum of a parameter and its update is rounded to the parameter's dtype."""


def apply_updates(
    params: T, updates: Tree, *, rounding: Rounding = "nearest", key: Any = None
) -> T:
    """p + u for every leaf, added in at least float32 and rounded once to the dtype of p.

    A step of less than half the distance to the next number is lost in rounding to the
    nearest: a bfloat16 weight of 1 never moves by 0.001. Stochastic rounding goes up or down
    with the odds that make the mean of the result p + u.

    **Arguments:**

    - `params`: any pytree of arrays.
    - `updates`: the same structure; where it has `None` the parameter stays as it is.
    - `rounding`: `"nearest"`, ties to even, or `"stochastic"`. It matters for parameters
      narrower than float32 only.
    - `key`: a jax random key, another one at every step; read by stochastic rounding only. Each
      leaf's draws depend on it and on the leaf's path, not on other leaves or on the sharding.

    **Raises:** `TreeError` if structures or shapes differ, or a complex update meets a real
    parameter; `ConfigError` for another rounding, or a stochastic one without a key.

    >>> import jax, jax.numpy as jnp
    >>> apply_updates({"w": jnp.float32(1.0)}, {"w": jnp.float32(-0.25)})
    {'w': Array(0.75, dtype=float32)}
    >>> w, u = jnp.ones(10_000, "bfloat16"), jnp.full(10_000, -0.001)
    >>> after = apply_updates(w, u, rounding="stochastic", key=jax.random.key(0))
    >>> round(float(after.astype(jnp.float32).mean()), 4)
    0.999
    """
    layout = layout_of("apply_updates", params)
    named = zip(layout.names, jax.tree.leaves(params), strict=True)
    leaves = [as_values("apply_updates", name, p) for name, p in named]
    steps = match_leaves("apply_updates", "the updates", layout, updates)
    add = _adding("apply_updates", layout, leaves, rounding, key)
    after = [add(name, p, u) for name, p, u in zip(layout.names, leaves, steps, strict=True)]
    moved: T = layout.treedef.unflatten(after)
    return moved


def added(name: str, p: Any, u: Any, seed: Array | None = None) -> Any:
    """p + u in the dtype of p, for one leaf; with a seed, rounded stochastically."""
    if u is None:
        return p
    p = jnp.asarray(as_values("apply_updates", name, p))
    u = as_values("apply_updates", name, u)
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
        return add_rows(p, u, lambda rows: _rounded(rows, p.dtype, seed))
    if not jnp.issubdtype(p.dtype, jnp.inexact):  # a frozen integer: its update is zero
        return p
    return _rounded(wide_sum(p, jnp.asarray(u)), p.dtype, seed)


def _seed(key: Any) -> Array:
    return jax.random.bits(key, (2,), "uint32")  # without a dtype they are uint64 under x64


def _rounded(x: Array, dtype: DTypeLike, seed: Array | None) -> Array:
    return cast(x, dtype) if seed is None else stochastic(x, dtype, seed)


def _adding(who: str, layout: Layout, params: Leaves, rounding: Rounding, key: Any) -> Add:
    """`added` with this rounding."""
    check_key(who, key)
    if is_one_of(rounding, "nearest"):
        return added
    if not is_one_of(rounding, "stochastic"):
        raise ConfigError(
            who,
            "there is no such rounding",
            expected="'nearest' or 'stochastic'",
            found=repr(rounding),
        )
    if key is None:
        raise ConfigError(
            who,
            "stochastic rounding needs key=",
            fix="Give another key at every step: key=jax.random.fold_in(key, step).",
        )
    # A leaf's seed comes from its path, so that it draws the same beside other leaves.
    narrow = [n for n, p in zip(layout.names, params, strict=True) if is_narrow(_dtype(p))]
    paths = np.asarray([zlib.crc32(f"rounding/{name}".encode()) for name in narrow], np.uint32)
    try:
        seeds = jax.vmap(lambda path: _seed(jax.random.fold_in(key, path)))(paths)
    except (TypeError, ValueError):
        raise ConfigError(
            who,
            "key= is no random key",
            expected="jax.random.key(seed)",
            found=repr(key)[:100],
        ) from None
    # In one array behind a barrier: see `side_by_side`.
    seeds = jax.lax.optimization_barrier(seeds)
    own = {name: seeds[i] for i, name in enumerate(narrow)}
    return lambda name, p, u: added(name, p, u, own.get(name))


def _dtype(p: Any) -> Any:
    return jnp.asarray(p).dtype if isinstance(p, int | float | complex) else p.dtype


ENTRYWISE.add(added)


def step(
    tx: Transform,
    updates: Tree,
    state: State,
    params: T,
    *,
    rounding: Rounding = "nearest",
    key: Any = None,
    **extra: Any,
) -> tuple[T, State]:
    """`update` and `apply_updates` in one: the next parameters, and the next state.

    The numbers are the same. What it spares is memory traffic: `accumulate` does not touch
    the parameters between its steps, where `update` gives zeros to be added, and
    `master_weights` rounds its masters without adding a difference.

    **Arguments:** as for `tx.update`; `rounding` and `key` as for `apply_updates`. The key also
    goes to transforms that use one; what they draw is independent of the rounding.

    **Raises:** as `tx.update` and `apply_updates`, and `TreeError` without `params`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.sgd(0.5)
    >>> params = {"w": jnp.float32(1.0)}
    >>> params, state = jopt.step(tx, {"w": jnp.float32(0.5)}, tx.init(params), params)
    >>> params
    {'w': Array(0.75, dtype=float32)}
    """
    check_transform("step", tx)
    if params is None:
        raise TreeError("step", "needs the parameters", fix="Call jopt.step(tx, grads, state, p).")
    if key is not None:
        extra["key"] = key
    state, boxes = taken_off(state)
    flow = tx.flow(updates, state, params, extra)
    add = _adding("step", flow.layout, flow.params or [], rounding, key)
    leaves, new = stepped(tx.parts, flow, entered(tx.parts, state), add)
    new = left(new, state)
    after: T = flow.tree(leaves)
    return after, put_on(new, boxes)
