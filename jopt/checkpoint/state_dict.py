"""A state as host arrays, and back onto devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint.compare import Difference, compare
from jopt.checkpoint.leaves import (
    PLAIN,
    Kind,
    children,
    flatten,
    host,
    join,
    kind_of,
    kinds_of,
    rebuild,
    shown,
)
from jopt.core.tree import Path, Tree, nest


def state_dict(tree: Tree) -> dict[str, Any]:
    """A snapshot on the host: nested dicts of NumPy arrays, keyed by strings.

    The arrays are copies: they outlive a donation of `tree`, and may be changed. bfloat16 stays
    bfloat16 (through `ml_dtypes`). Python numbers, strings and `None` stay what they are.

    **Arguments:**

    - `tree`: a state, or any pytree: `{"params": ..., "state": ..., "step": 3}`. Lists, tuples
      and modules become dicts keyed by index or by attribute.

    **Raises:** `CheckpointError` for a leaf that is no data: a typed PRNG key, a function, an
    array that was donated or that spans processes.

    >>> import jax.numpy as jnp, jopt
    >>> jopt.state_dict({"w": jnp.ones(2), "layers": [jnp.zeros(1)]})
    {'layers': {'0': array([0.], dtype=float32)}, 'w': array([1., 1.], dtype=float32)}
    """
    flat = flatten("state_dict", tree)
    kinds_of("state_dict", flat)
    paths = sorted(flat)
    named: dict[str, Any] = nest(paths, (snapshot("state_dict", p, flat[p]) for p in paths))
    return named


def load_state_dict(like: Tree, state_dict: Any, strict: bool = True) -> Tree:
    """The leaves of a state dict in the containers, dtypes and shardings of `like`.

    Nothing is cast, broadcast or renamed. What `like` holds as a `jax.Array` or a
    `jax.ShapeDtypeStruct` is placed with its sharding, if it has one; what it holds as a NumPy
    array is a NumPy array. A state may have `leaf_count` entries, for leaves that have lived
    through fewer steps than others, where `like` has none: they are taken.

    **Arguments:**

    - `like`: a tree of the structure wanted: a fresh `tx.init(params)`, or
      `jax.eval_shape(tx.init, params)`.
    - `state_dict`: from `jopt.state_dict`, `jopt.load`, flax, orbax: any tree of arrays.
    - `strict`: if `False`, leaves that do not fit keep the value they have in `like`.
      `jopt.checkpoint.differences(like, state_dict)` says which ones these are.

    **Raises:** `CheckpointError` that lists every difference: leaves missing, unexpected, of
    another shape or dtype, and numbers that are scheduled on one side only.

    >>> import jax.numpy as jnp, jopt
    >>> jopt.load_state_dict({"w": jnp.ones(2)}, {"w": jnp.ones(3), "v": jnp.ones(1)})
    Traceback (most recent call last):
      ...
    jopt.base.errors.CheckpointError: load_state_dict: the state does not fit `like`: 2 differences
      unexpected    v: expected nothing, found float32 (1,)
      shape         w: expected (2,), found (3,)
      Nothing was loaded. strict=False takes what fits and keeps the rest of `like`.
    """
    who = "load_state_dict"
    flat = flatten(who, state_dict)
    kinds = kinds_of(who, flat)
    advice = "Nothing was loaded. strict=False takes what fits and keeps the rest of `like`."
    like = with_counts_of(who, like, kinds)
    targets = flatten(who, like)
    leaves = dict(targets)
    for path in fitting(who, targets, kinds, strict=strict, fix=advice):
        # A copy, so that a later change of the state dict, or a donation, reaches nothing here.
        leaves[path] = place(who, path, snapshot(who, path, flat[path]), targets[path])
    return rebuild(who, like, leaves)


def differences(like: Tree, state_dict: Any) -> list[Difference]:
    """What `load_state_dict(like, state_dict)` would complain of; empty if it fits.

    >>> import jax.numpy as jnp, jopt
    >>> [found] = jopt.checkpoint.differences({"w": jnp.ones(2)}, {"w": jnp.ones(3)})
    >>> found.problem, found.path, found.expected, found.found
    ('shape', ('w',), '(2,)', '(3,)')
    """
    who = "differences"
    kinds = kinds_of(who, flatten(who, state_dict))
    like = with_counts_of(who, like, kinds)
    return compare(kinds_of(who, flatten(who, like)), kinds)


def fitting(
    who: str,
    targets: Mapping[Path, Any],
    kinds: Mapping[Path, Kind],
    *,
    strict: bool = True,
    fix: str | None = None,
) -> list[Path]:
    """The paths of `targets` where a state of these kinds fits; `strict` raises if any does not."""
    wanted = kinds_of(who, targets)
    if strict and (found := compare(wanted, kinds)):
        count = "1 difference" if len(found) == 1 else f"{len(found)} differences"
        problem = join(f"the state does not fit `like`: {count}", map(str, found))
        raise CheckpointError(who, problem, fix=fix)
    fits = [path for path, kind in wanted.items() if kinds.get(path) == kind]
    bare = sorted(p for p, x in targets.items() if isinstance(x, jax.ShapeDtypeStruct))
    lost = [shown(path) for path in bare if kinds.get(path) != wanted[path]]
    if lost:
        problem = "the state has nothing that fits, and `like` has no value to keep, at"
        fix = "Give `like` arrays there: tx.init(params) in place of jax.eval_shape."
        raise CheckpointError(who, join(problem, lost), fix=fix)
    return fits


def with_counts_of(who: str, like: Tree, kinds: Mapping[Path, Kind]) -> Tree:
    """`like` with the `leaf_count` entries that the state has, and no others.

    A leaf without an entry has the node's own count, so their absence is a value, too.
    """

    def walk(node: Tree, path: Path) -> Tree:
        names, kids, make = children(who, node)
        if not names:
            return node
        if (
            type(node) is dict
            and _counts(node)
            and kinds.get((*path, "count")) == kind_of(node["count"])
        ):
            own = (*path, "leaf_count")
            aged = [p[len(own) :] for p in kinds if p[: len(own)] == own and len(p) > len(own)]
            node = {k: v for k, v in node.items() if k != "leaf_count"}
            if aged:
                node["leaf_count"] = nest(sorted(aged), [node["count"]] * len(aged))
            names, kids, make = children(who, node)
        return make([walk(kid, (*path, name)) for name, kid in zip(names, kids, strict=True)])

    return walk(like, ())


def snapshot(who: str, path: Path, leaf: Any) -> Any:
    """A leaf on the host that shares memory with nothing."""
    if type(leaf) in PLAIN:
        return leaf
    return {} if type(leaf) is dict else np.array(host(who, path, leaf), order="C")


def place(who: str, path: Path, value: Any, target: Any) -> Any:
    """A host leaf as `target` is: NumPy, or on the devices and with the sharding it has."""
    if not isinstance(target, jax.Array | jax.ShapeDtypeStruct):
        return value
    if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        raise CheckpointError(
            who,
            f"jax cannot hold {value.dtype} here",
            path=shown(path),
            fix='Turn it on: jax.config.update("jax_enable_x64", True).',
        )
    # An array that jax was free to move stays so: committing it would compile everything anew.
    tied = isinstance(target, jax.ShapeDtypeStruct) or target.committed
    return jax.device_put(value, target.sharding if tied else None)


def _counts(node: dict[Any, Any]) -> bool:
    kind = kind_of(node.get("count"))
    return isinstance(kind, Kind) and kind.shape is not None and kind.dtype.startswith("int")
