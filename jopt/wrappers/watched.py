"""Norms of gradients, steps and parameters, taken where a step is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.checks import is_sparse
from jopt.core.groups import DEFAULT
from jopt.core.side_by_side import each_alone
from jopt.core.sparse_rows import coalesced
from jopt.core.spec import SEEN
from jopt.core.spec_parts import spec_parts
from jopt.core.transform import Flow, Leaves, Node
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart
from jopt.numerics import global_norm, global_norms, number_dtype

OTHERS = "ungrouped"
"""What leaves are called that are in no group, where others are."""

GRADIENT, UPDATE, PARAM, RATIO = "gradient_norm", "update_norm", "param_norm", "update_ratio"
NAMES = (GRADIENT, UPDATE, PARAM, RATIO)


class WatchedPart(WrapperPart):
    """The wrapped parts, and norms of what goes in and comes out."""

    keeps = False

    def __init__(self, name: str, tx: Any) -> None:
        super().__init__(name, tx)
        first = next(iter(self.inner.values()), None)
        self.by_example: bool = first is not None and first.by_example

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """A number for each norm of each group; there is none yet."""
        groups = dict.fromkeys((DEFAULT, *(x for own in self._tags(layout) for x in own)))
        return {SEEN: {group: {name: _unknown() for name in NAMES} for group in groups}}

    def own_extended(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """The same for the groups that there are now, with what was measured of them."""
        fresh, old = self.own_init(layout, params)[SEEN], node.get(SEEN, {})
        return {SEEN: {group: old.get(group, own) for group, own in fresh.items()}}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """The wrapped step, and what it was like."""
        self.check_own(node, SEEN)
        with each_alone():
            after, inner = self.inner_update(flow, node["inner"])
        lists = {
            GRADIENT: [self._gradient(g) for g in flow.updates],
            UPDATE: after.updates,
            PARAM: _moving(flow),
        }
        norms = _norms(self._tags(flow.layout), lists)
        seen = {}
        for group, old in node[SEEN].items():
            new = {name: found.get(group, _unknown()) for name, found in norms.items()}
            new[RATIO] = new[UPDATE] / new[PARAM]
            if after.took is not None:
                new |= {k: jnp.where(after.took, new[k], old[k]) for k in NAMES if k != GRADIENT}
            seen[group] = {k: new[k].astype(jnp.asarray(old[k]).dtype) for k in NAMES}
        return after, {SEEN: seen, "inner": inner}

    def _gradient(self, g: Any) -> Any:
        """Of gradients of single examples their mean."""
        return jnp.mean(g, axis=0) if g is not None and self.by_example else g

    def _tags(self, layout: Layout) -> list[list[str]]:
        """For each leaf what it is counted under beside all: its groups, and who moves it."""
        tags: list[dict[str, None]] = [{} for _ in range(len(layout))]
        at = {path: i for i, path in enumerate(layout.paths)}
        found = [*spec_parts(self.inner, layout, [*layout.shapes])]
        movers = {here.keys[-1] for here in found if here.part.spec.steps}
        for here in found:
            for path, labels in zip(
                here.layout.paths, here.part.labels(here.layout, here.params), strict=True
            ):
                tags[at[path]].update(dict.fromkeys(labels))
                if len(movers) > 1 and here.part.spec.steps:
                    tags[at[path]][here.keys[-1]] = None
        moving = [i for i in range(len(layout)) if i not in layout.still]
        if any(tags[i] for i in moving):
            for i in moving:
                tags[i] = tags[i] or {OTHERS: None}
        return [[] if i in layout.still else [*own] for i, own in enumerate(tags)]


def _unknown() -> Array:
    return jnp.full((), jnp.nan, number_dtype())


def _values(x: Any) -> Any:
    """What an array holds; of rows, those with one number added up."""
    return coalesced(x)[1] if is_sparse(x) else x


def _moving(flow: Flow) -> Leaves:
    still = flow.layout.still
    return [None if i in still else p for i, p in enumerate(flow.params or [])]


def _norms(
    tags: Sequence[Sequence[str]], lists: Mapping[str, Leaves]
) -> dict[str, dict[str, Array]]:
    """Of each of these lists the norm of all leaves, and that of each tag's; each is read once.

    What is dense is measured beside what the others have of the same leaf.
    """
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[list[Array]]] = {}
    for i, own in enumerate(tags):
        there = {name: xs[i] for name, xs in lists.items() if xs and _counts(xs[i])}
        dense = tuple(name for name, x in there.items() if not is_sparse(x))
        for names in (dense, *((name,) for name in there if name not in dense)):
            if names:
                alike.setdefault((tuple(own), names), []).append([_values(there[k]) for k in names])
    found: dict[str, dict[str, list[Array]]] = {name: {} for name in lists}
    for (own, names), leaves in alike.items():
        norms = global_norms([*zip(*leaves, strict=True)])
        for name, norm in zip(names, norms, strict=True):
            for tag in (DEFAULT, *own):
                found[name].setdefault(tag, []).append(norm)
    return {
        name: {tag: xs[0] if len(xs) == 1 else global_norm(xs) for tag, xs in by_tag.items()}
        for name, by_tag in found.items()
    }


def _counts(x: Any) -> bool:
    return x is not None and jnp.issubdtype(x.dtype, jnp.inexact)
