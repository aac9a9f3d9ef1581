"""The part that a `Spec` describes: its node of state, and what surrounds every rule."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.asked import Asked
from jopt.core.checks import check_node, check_rows, check_slot_names
from jopt.core.codecs import fresh
from jopt.core.composed import composed
from jopt.core.counts import Counts, skipping, ticked
from jopt.core.groups import Labels, key_of
from jopt.core.in_force import extended_numbers, init_numbers, read_numbers
from jopt.core.leaf import Leaf, Outcome, given_back
from jopt.core.nested import merged, nest
from jopt.core.numbers import own_factors, own_numbers
from jopt.core.plan import Plan
from jopt.core.read_by import read_by
from jopt.core.slots import stand_in
from jopt.core.stack import fitted
from jopt.core.transform import Add, Flow, Leaves, Node, moved
from jopt.core.tree import Layout
from jopt.core.without_params import check_spared, seen, spoiled


class SpecPart(Asked):
    """A part made of a spec and a rule; doors say how the rule meets the leaves."""

    streams = True

    @abc.abstractmethod
    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule to leaves of the same groups: what comes out of each.

        `shared` are the groups' own slots, of which it gives the new values, too.
        """

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The node: the step count, the numbers, and one tree for each slot."""
        plan = self.plan(layout, params)
        node: Node = {"count": jnp.int32(0)} if self.counts else {}
        node.update(init_numbers(self.spec, self.numbers, self.groups))
        skips = skipping(self.name, self.skips, layout, params, plan.live)
        node.update(Counts(node).grown((), skips, ()))
        for slot in self.slots:
            holders = plan.holders[slot.name]
            leaves = [
                self.store.first(
                    fitted(slot, plan.stacks.get(i)), params[i], self._own(node, plan.labels[i])
                )
                for i in holders
            ]
            node[slot.name] = nest(plan.paths_of(holders), leaves)
        for slot in self.shared:
            node[slot.name] = {
                key_of(held): fresh(
                    slot, stand_in([params[i] for i in mine]), self._own(node, held), self.options
                )
                for held, mine in plan.members.items()
            }
        return node

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """One step of the rule over all live leaves."""
        outcomes, new = self._turn(flow, node, None)
        updates = given_back(self.spec, flow, outcomes)
        return moved(flow, updates, steps=self.spec.steps), new

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """The same, and the parameters with the updates added: by the door where it can."""
        outcomes, new = self._turn(flow, node, add)
        by_door = {i: x.moved for i, x in outcomes.items() if x.moved is not None}
        updates = given_back(self.spec, flow, outcomes)
        leaves = flow.plus(updates, add)
        return [by_door.get(i, p) for i, p in enumerate(leaves)], new

    def _turn(self, flow: Flow, node: Node, add: Add | None) -> tuple[dict[int, Outcome], Node]:
        if flow.params is None:
            check_spared(self.spec, self.numbers, self.groups)
        plan = self.plan(flow.layout, flow.updates if flow.params is None else flow.params)
        check_node(self.name, node, self._entries())
        numbers, entries = read_numbers(
            self.name,
            node,
            self.numbers,
            self.groups,
            node.get("count", jnp.int32(0)),
            flow.extra,
            plan.members,
        )
        new: Node = {**node, **entries}
        if self.counts:
            new["count"] = ticked(node["count"])
        counts = Counts(node) if self.ticks else None
        leaves = self._brought_in(plan, flow, node, add)
        sets: dict[str, list[Leaf]] = {}
        for held, members in plan.members.items():
            if mine := [leaves[i] for i in members if i in leaves]:
                mine = self._with_numbers(mine, numbers[held], flow, counts)
                sets.setdefault(plan.set_of(held), []).extend(mine)
        outcomes: dict[int, Outcome] = {}
        for key, mine in sets.items():
            done = self._ran(mine, key, flow, node, new)
            outcomes |= {x.index: out for x, out in zip(mine, done, strict=True)}
        if flow.params is None and self.spec.steps:
            for held, members in plan.members.items():
                there = [i for i in members if i in outcomes]
                done = spoiled(self.spec, [outcomes[i] for i in there], numbers[held])
                outcomes |= zip(there, done, strict=True)
        if counts is not None:
            new.update(self._aged(plan, flow, counts, leaves))
        new.update(self.store.after(plan, node, leaves, outcomes))
        return outcomes, new

    def _brought_in(self, plan: Plan, flow: Flow, node: Node, add: Add | None) -> dict[int, Leaf]:
        """Each leaf that has a gradient, but for its numbers."""
        found: dict[int, Leaf] = {}
        for i in plan.live:
            g, name = flow.updates[i], plan.names[i]
            if g is not None:
                check_rows(self.name, name, g, self.spec.sparse == "rows")
                p = seen(self.spec, flow, i)
                like, stack = g if p is None else p, plan.stacks.get(i)
                stored, slots, rest = self.store.before(node, flow.layout, i, like, plan)
                step = node.get("count")
                found[i] = Leaf(i, name, g, p, stored, slots, step, add, stack, rest)
        return found

    def _with_numbers(
        self, leaves: list[Leaf], numbers: dict[str, Array], flow: Flow, counts: Counts | None
    ) -> list[Leaf]:
        """The same, with what their rule reads beside."""
        known = {k: flow.extra.get(k) for k in self.seen} | numbers
        paths = [flow.layout.paths[x.index] for x in leaves]
        shapes = [tuple(x.g.shape) for x in leaves]
        options = dict(self.frozen_options)
        made = self.prepare, self.ending
        alone = self.spec.reduces
        rows = read_by(self.name, *made, known, options, counts, paths, shapes, alone)
        ages = [None if counts is None else counts.age(path) for path in paths]
        found = zip(leaves, rows, ages, strict=True)
        return [x.but(numbers=row, age=age) for x, row, age in found]

    def _ran(
        self, leaves: list[Leaf], key: str, flow: Flow, node: Node, new: Node
    ) -> list[Outcome]:
        """What comes out of the leaves of one set of groups, whose own slots go into `new`."""
        shared = {s.name: node[s.name][key] for s in self.shared}
        done, after = self.run(leaves, shared, flow)
        for name, value in after.items():
            new[name] = {**new[name], key: value.astype(shared[name].dtype)}
        return done

    def _aged(
        self, plan: Plan, flow: Flow, counts: Counts, leaves: Mapping[int, Leaf]
    ) -> dict[str, Any]:
        """The entry for leaves with a count of their own; those that sit out stay as old."""
        idle = [i for i in plan.live if i not in leaves]
        if not self.spec.ageless_under(self.options):
            counts.check_idle(self.name, flow.layout, idle)
        return counts.after(plan.paths_of(idle))

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """A fresh node with everything that `node` has; leaves it lacks start at step one."""
        plan = self.plan(layout, params)
        new = self.init(layout, params)
        check_slot_names(self.name, node, {s.name for s in (*self.slots, *self.shared)})
        new.update(self.store.extended(new, node, layout, params, plan.live, plan.stacks))
        for key in ("count", *(s.name for s in self.shared)):
            if key in new and key in node:
                new[key] = merged(new[key], node[key])
        new.update(extended_numbers(self.name, new, node, self.numbers, self.groups))
        if self.ticks:
            of = layout, params, plan.live, plan.stacks
            joined = self.store.joined(node, *of) if self.slots else []
            skips = skipping(self.name, self.skips, layout, params, plan.live)
            new.pop("leaf_count", None)
            new.update(Counts(node).grown(joined, skips, {*plan.paths_of(plan.live)}))
        return new

    def _entries(self) -> set[str]:
        return {s.name for s in (*self.slots, *self.shared)} | ({"count"} if self.counts else set())

    def _own(self, node: Node, labels: Labels) -> dict[str, Any]:
        return composed(self.name, own_numbers(node), own_factors(node), labels)
