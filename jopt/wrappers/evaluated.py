"""The parameters to evaluate with, whatever a transform keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, StateError
from jopt.core import State
from jopt.core.boxes import taken_off
from jopt.core.checks import as_array
from jopt.core.groups import DEFAULT
from jopt.core.hyperparams import nodes
from jopt.core.nested import has, lookup
from jopt.core.paths import Path
from jopt.core.sites import sites
from jopt.core.transform import Node, T
from jopt.core.tree import Layout, layout_of
from jopt.wrappers.averages import AHEAD, ANCHOR, ASCENDED, AVERAGE, MIX

Seen = Callable[[Array, Array], Array]
"""What of a slot and its parameter is evaluated."""


def eval_params(state: State, params: T, *, label: str | None = None) -> T:
    """The parameters to evaluate with: the average that the state holds, else `params`.

    Works through chains and wrappers, so that evaluation code need not know the optimizer. Where
    `jopt.sam` has moved the parameters to a place nearby, it is from where they were.

    **Arguments:**

    - `state`: the state of any transform, or what holds it, see `jopt.hyperparams`.
    - `params`: the parameters now; the result has their containers and dtypes. Leaves that the
      average does not have, such as frozen ones, are taken from here.
    - `label`: which average, as `hyperparams` calls its transform; needed only where a leaf
      has several.

    **Raises:** `ConfigError` if a leaf has several averages and there is no label, or if there are
    none of this label; `StateError` if an average has another shape than its parameter, or is of
    none of the parameters.
    """
    every = ((name, _kept(node)) for name, node in nodes(state, "eval_params"))
    found = {name: kept for name, kept in every if kept is not None}
    if label is not None and not (isinstance(label, str) and label in found):
        raise ConfigError(
            "eval_params",
            f"no average is kept by {label!r}",
            expected=", ".join(found) or "no averages in this state",
            found=repr(label)[:100],
        )
    anchors = [
        node for _, node in nodes(state, "eval_params") if ANCHOR in node and ASCENDED in node
    ]
    if not found and not anchors:
        if not [*nodes(state, "eval_params")] and isinstance(params, Mapping) and [*sites(params)]:
            raise StateError(
                "eval_params",
                "state and parameters are in each other's place",
                expected="eval_params(state, params)",
            )
        return params
    layout = layout_of("eval_params", params)
    leaves = layout.treedef.flatten_up_to(params)
    for node in anchors:
        tree, away = taken_off(node[ANCHOR])[0], jnp.asarray(node[ASCENDED])
        for i, path in _members(layout, tree).items():
            p = as_array("eval_params", layout.names[i], leaves[i])
            leaves[i] = _evaluated(layout.names[i], lookup(tree, path), p, _back_if(away))
    owner: dict[int, str] = {}
    for name in found if label is None else [label]:
        tree, seen = found[name]
        mine = _members(layout, tree)
        for i, path in mine.items():
            if i in owner:
                raise ConfigError(
                    "eval_params",
                    "several averages are kept",
                    found=f"{', '.join(found)}, of {layout.names[i]}",
                    fix=f"Say which: label={next(iter(found))!r}.",
                )
            owner[i] = name
            p = as_array("eval_params", layout.names[i], leaves[i])
            leaves[i] = _evaluated(layout.names[i], lookup(tree, path), p, seen)
    averaged: T = layout.treedef.unflatten(leaves)
    return averaged


def _kept(node: Node) -> tuple[Any, Seen] | None:
    """The tree of a node that evaluation is by, and what it is by."""
    if AVERAGE in node:
        return taken_off(node[AVERAGE])[0], lambda a, p: a
    if AHEAD in node and MIX in node:
        mix = node[MIX][DEFAULT]
        return taken_off(node[AHEAD])[0], lambda z, y: z + (y - z) / jnp.asarray(mix, y.dtype)
    return None


def _back_if(away: Array) -> Seen:
    return lambda anchor, p: jnp.where(away, anchor, p)


def _members(layout: Layout, tree: Any) -> dict[int, Path]:
    mine = {i: path for i, path in enumerate(layout.paths) if has(tree, path)}
    if jax.tree.leaves(tree) and not mine:
        raise StateError(
            "eval_params",
            "the average is of other parameters",
            expected="the parameters that the state was made for",
            found=", ".join(layout.names[:8]) or "no leaves",
        )
    return mine


def _evaluated(name: str, a: Any, p: Any, seen: Seen) -> Array:
    if isinstance(a, Mapping) or jnp.shape(a) != tuple(p.shape):
        raise StateError(
            "eval_params",
            "the average has another shape than its parameter",
            path=name,
            expected=tuple(p.shape),
            found="a tree" if isinstance(a, Mapping) else jnp.shape(a),
        )
    a = jnp.asarray(a)
    return seen(a, p.astype(a.dtype)).astype(p.dtype)
