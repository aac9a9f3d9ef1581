"""Norms of gradients, steps and parameters, taken where a step is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.checks import is_sparse
from jopt.core.groups import DEFAULT
from jopt.core.rows import coalesced
from jopt.core.seats import seats
from jopt.core.spec import SEEN
from jopt.core.transform import Flow, Leaves, Node
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart
from jopt.numerics import number_dtype
from jopt.numerics.norms import global_norm

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
        after, inner = self.inner_update(flow, node["inner"])
        tags = self._tags(flow.layout)
        norms = {
            GRADIENT: _norms(tags, [self._gradient(g) for g in flow.updates]),
            UPDATE: _norms(tags, after.updates),
            PARAM: _norms(tags, _moving(flow)),
        }
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
        found = [*seats(self.inner, layout, [*layout.shapes])]
        movers = {seat.keys[-1] for seat in found if seat.part.spec.steps}
        for seat in found:
            for path, labels in zip(
                seat.layout.paths, seat.part.labels(seat.layout, seat.params), strict=True
            ):
                tags[at[path]].update(dict.fromkeys(labels))
                if len(movers) > 1 and seat.part.spec.steps:
                    tags[at[path]][seat.keys[-1]] = None
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


def _norms(tags: Sequence[Sequence[str]], leaves: Leaves) -> dict[str, Array]:
    """The norm of all leaves, and that of each tag's; each leaf is read once."""
    alike: dict[tuple[str, ...], Leaves] = {}
    for own, x in zip(tags, leaves, strict=False):  # there may be no parameters
        if x is not None and jnp.issubdtype(x.dtype, jnp.inexact):
            alike.setdefault(tuple(own), []).append(_values(x))
    parts = {own: global_norm(xs) for own, xs in alike.items()}
    members: dict[str, list[Array]] = {DEFAULT: [*parts.values()]} if parts else {}
    for own, part in parts.items():
        for tag in own:
            members.setdefault(tag, []).append(part)
    return {tag: xs[0] if len(xs) == 1 else global_norm(xs) for tag, xs in members.items()}
