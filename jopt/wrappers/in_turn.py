"""Up at one update and down at the next: what `jopt.sam` does without the loss as a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, StateError, TreeError
from jopt.core.chain import as_parts, unused_label
from jopt.core.checks import EXTEND
from jopt.core.kept_metrics import none_kept
from jopt.core.nested import has, lookup, nest
from jopt.core.row import only_if, stepped, through
from jopt.core.transform import Add, Flow, Leaves, Node, Part, State
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart
from jopt.numerics import once_if
from jopt.numerics.explicit import zeros_of
from jopt.wrappers.averages import ANCHOR, ASCENDED
from jopt.wrappers.judged import left, made_up_for


class InTurnPart(WrapperPart):
    """A rule that goes up, and at the next update the wrapped parts, from where it began.

    What stands behind it sees the steps of the wrapped parts, and the parameters they are from.
    """

    leads = True
    moves = True

    def __init__(self, name: str, tx: Any, ascent: Any) -> None:
        super().__init__(name, tx)
        self.ascent: str = unused_label(name, self.inner)
        [rule] = as_parts(ascent).values()
        self.inner: dict[str, Part] = {self.ascent: rule, **self.inner}
        self.rests = True

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """Where the last ascent began, and whether there was no step since."""
        live = _moving(layout, params)
        # Copies: what shared the parameters' buffers could not be donated beside them.
        kept = nest([layout.paths[i] for i in live], [jnp.array(params[i]) for i in live])
        return {ASCENDED: jnp.zeros((), bool), ANCHOR: kept, **none_kept(self.metrics)}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """Up, or back and a step down."""
        after, node, _ = self.lead(flow, node, {}, {})
        return after, node

    def lead(
        self, flow: Flow, node: Node, rest: Mapping[str, Part], nodes: State
    ) -> tuple[Flow, Node, State]:
        """The same, and what stands behind with a step down."""
        down, up, back, own = self._turn(flow, node)
        params, anchors = flow.params or [], back.params or []
        seen, still, steps = replace(back, extra=own[1]), flow.layout.still, False

        def one(at: tuple[Any, Any, State, State]) -> tuple[Any, Any, State, State]:
            nonlocal steps
            after, inner = through(self._down, seen, at[2])
            after, others = through(rest, after, at[3])
            steps = after.stepped
            updates = [
                u if u is None or i in still else _from(anchors[i], params[i], u)
                for i, u in enumerate(after.updates)
            ]
            return updates, after.took, inner, others

        inner = {k: node["inner"][k] for k in self._down}
        start = (up, None, inner, nodes)
        shapes = jax.eval_shape(lambda: one(start)[:2])
        if not (flow.stepped or steps):
            raise ConfigError(
                self.name, "there is no optimizer in it", expected="a transform that makes steps"
            )
        moves = [
            x if x is None else zeros_of(x) if u is None else u.astype(x.dtype)
            for u, x in zip(up, shapes[0], strict=True)
        ]
        first = jax.tree.map(zeros_of, shapes[1])
        start = (moves, first, inner, nodes)
        updates, took, inner, others = self._only_if(down, one, start, rest)
        after = replace(flow, updates=updates, stepped=flow.stepped or steps)
        after = replace(after, took=down if took is None else took)
        return after, {**own[0], "inner": {**own[0]["inner"], **inner}}, others

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """As `update`."""
        leaves, node, _ = self.lead_step(flow, node, {}, {}, add)
        return leaves, node

    def lead_step(
        self, flow: Flow, node: Node, rest: Mapping[str, Part], nodes: State, add: Add
    ) -> tuple[Leaves, Node, State]:
        """The same; a step down begins where the ascent did, and adds no difference."""
        down, up, back, own = self._turn(flow, node)
        still, params = flow.layout.still, flow.params or []
        seen = replace(back, extra=own[1])

        def one(at: tuple[Leaves, State, State]) -> tuple[Leaves, State, State]:
            if not rest:
                leaves, inner = stepped(self._down, seen, at[1], add)
                return [None if i in still else x for i, x in enumerate(leaves)], inner, {}
            after, inner = through(self._down, seen, at[1])
            leaves, others = stepped(rest, after, at[2], add)
            return [None if i in still else x for i, x in enumerate(leaves)], inner, others

        inner = {k: node["inner"][k] for k in self._down}
        high = flow.plus(up, add)
        start = ([None if i in still else x for i, x in enumerate(high)], inner, nodes)
        moved, inner, others = self._only_if(down, one, start, rest)
        leaves = [params[i] if i in still else x for i, x in enumerate(moved)]
        return leaves, {**own[0], "inner": {**own[0]["inner"], **inner}}, others

    def _only_if(self, down: Array, one: Any, start: Any, rest: Mapping[str, Part]) -> Any:
        """`one(start)` where it goes down; a loop has what it changes written down before."""
        if not all(part.cheap for part in (*self._down.values(), *rest.values())):
            return once_if(down, one, start)
        return jax.tree.map(lambda new, old: jnp.where(down, new, old), one(start), start)

    @property
    def _down(self) -> dict[str, Part]:
        return {k: part for k, part in self.inner.items() if k != self.ascent}

    def _turn(self, flow: Flow, node: Node) -> tuple[Array, Leaves, Flow, tuple[Node, Any]]:
        """Whether it goes down; the way up; the flow where it began; own entries and metrics."""
        if flow.params is None:
            fix = "Call tx.update(grads, state, params)."
            raise TreeError(self.name, "update needs the parameters", fix=fix)
        self.check_own(node, ASCENDED, ANCHOR)
        down, layout = jnp.asarray(node[ASCENDED]), flow.layout
        anchors = list(flow.params)
        live = _moving(layout, anchors)
        for i in live:
            if not has(node[ANCHOR], layout.paths[i]):
                problem = "the state does not know where a parameter was"
                raise StateError(self.name, problem, path=layout.names[i], fix=EXTEND)
            anchors[i] = jnp.where(down, lookup(node[ANCHOR], layout.paths[i]), anchors[i])
        label, kept = self.ascent, node.get("metrics", {})
        after, rule = self.inner[label].update(flow, node["inner"][label])
        own = {
            ASCENDED: ~down,
            ANCHOR: nest([layout.paths[i] for i in live], [anchors[i] for i in live]),
            "inner": {label: only_if(~down, rule, node["inner"][label])},
        }
        if kept:
            own["metrics"] = left(down, kept, flow.extra)
        seen = replace(flow, params=anchors)
        return down, after.updates, seen, (own, made_up_for(kept, flow.extra))


def _moving(layout: Layout, params: Leaves) -> list[int]:
    return [i for i in range(len(params)) if i not in layout.still]


def _from(anchor: Any, p: Any, u: Array) -> Array:
    """The update of `p` that leads to `anchor` + `u`."""
    update: Array = anchor.astype(u.dtype) + u - p.astype(u.dtype)
    return update
