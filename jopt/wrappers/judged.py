"""What decides, from gradients and metrics, whether an update is a step at all."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.counts import ticked
from jopt.core.doors import TreePart
from jopt.core.groups import DEFAULT
from jopt.core.kept_metrics import given, mean, none_kept, with_this
from jopt.core.nested import merged
from jopt.core.row import only_if, only_where
from jopt.core.spec import Slot
from jopt.core.transform import Add, Flow, Leaves, Node, Part
from jopt.core.tree import Layout
from jopt.numerics import number_dtype

IN_A_ROW = "in_a_row"
TALLY = (
    Slot("total", "scalar", scope="group", dtype="int32"),
    Slot(IN_A_ROW, "scalar", scope="group", dtype="int32"),
)
"""The slots of whatever leaves steps out: how many in all, and up to now."""


def tallied(s: Any, took: Array) -> dict[str, Array]:
    """The new values of these slots."""
    return {
        "total": jnp.where(took, s.total, ticked(s.total)),
        IN_A_ROW: jnp.where(took, 0, ticked(s.in_a_row)),
    }


class JudgePart(TreePart):
    """A treewise rule whose slot `in_a_row` says whether there is a step: it is 0 then.

    What stands behind rests where it is not.
    """

    rests = True

    def hearing(self, metrics: frozenset[str]) -> Self:
        """The same, keeping these metrics too."""
        made = copy.copy(self)
        made.metrics = self.metrics | metrics
        return made

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The rule's node, and the metrics of steps that were left out."""
        return {**super().init(layout, params), **none_kept(self.metrics)}

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """The rule's node for more leaves; what is kept of metrics stays."""
        new = super().extend(layout, params, node)
        kept = none_kept(self.metrics)
        return {**new, **merged(kept, {k: node[k] for k in kept if k in node})}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """The rule, and nothing but zeros if it says so."""
        kept, extra = node.get("metrics", {}), flow.extra
        bare = {k: v for k, v in node.items() if k != "metrics"}
        after, new = super().update(flow, bare)
        if not any(g is not None for g in flow.updates):
            return after, {**new, **({"metrics": kept} if kept else {})}  # nothing to judge
        took = new[IN_A_ROW][DEFAULT] == 0
        if kept:
            new["metrics"] = left(took, kept, extra)
        updates = [only_where(took, u) for u in after.updates]
        after = replace(after, updates=updates, extra=made_up_for(kept, extra), took=took)
        return after, new

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """As `update`."""
        return Part.step(self, flow, node, add)


def made_up_for(kept: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of this step; one that is none stands back for those left out before."""
    found = dict(extra)
    for name in (name for name in kept if given(extra, name)):
        x = jnp.asarray(extra[name]).astype(number_dtype())
        late = (kept[name]["number"] > 0) & ~jnp.isfinite(x)
        found[name] = jnp.where(late, mean(kept[name]), x)
    return found


def left(took: Any, kept: Mapping[str, Any], extra: Mapping[str, Any]) -> Any:
    """What is kept of the metrics after this update: nothing after a step."""
    return only_if(~took, with_this(kept, extra), jax.tree.map(jnp.zeros_like, dict(kept)))
