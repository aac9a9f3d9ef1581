"""The part that a `Spec` describes: its node of state, and what surrounds every rule."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import jax.numpy as jnp
from jax import Array

from jopt.core.absent import check_spared, seen, spoiled
from jopt.core.axes import check_axes, check_looks, stack_at, stacks
from jopt.core.checks import check_node, check_params, check_rows, check_slot_names
from jopt.core.codecs import fresh
from jopt.core.composed import check_composed, composed
from jopt.core.counts import Counts, check_skips, skipping, ticked
from jopt.core.ending import Ending, choices_of, ending_of
from jopt.core.groups import Labels, assign, check_groups, key_of, parted, switched
from jopt.core.in_force import extended_numbers, init_numbers, read_numbers
from jopt.core.kernels import check_kernel
from jopt.core.leaf import Leaf, Outcome, given_back
from jopt.core.metrics import metrics_of
from jopt.core.numbers import (
    check_names,
    check_numbers,
    is_schedule,
    own_factors,
    own_numbers,
    owners,
)
from jopt.core.places import by_slots
from jopt.core.plan import KEPT, Plan, key_of_plan, members_of
from jopt.core.read_by import read_by
from jopt.core.rules import check_rule, hashable
from jopt.core.slots import Store, stand_in
from jopt.core.spec import Spec
from jopt.core.stack import Held, Stack, fitted
from jopt.core.storage import codec_for
from jopt.core.transform import Add, Flow, Leaves, Node, Part, moved
from jopt.core.tree import Layout, merged, nest


class SpecPart(Part):
    """A part made of a spec and a rule; doors say how the rule meets the leaves."""

    def __init__(
        self,
        spec: Spec,
        rule: Callable[..., Any],
        prepare: Callable[[Any], dict[str, Any]] | None,
        options: Mapping[str, Any] | None,
        arguments: Mapping[str, Any],
        ending: Ending | None = None,
    ) -> None:
        check_rule(spec, rule, prepare, options)
        self.made_of = prepare, options, arguments
        numbers, common = parted(arguments)
        self.spec = spec
        self.rule = rule
        self.prepare = prepare
        self.name = spec.name
        check_names(spec, numbers)
        self.groups = check_groups(spec.name, common.get("groups"))
        self.numbers = switched(spec, numbers, self.groups)
        self.ending = ending or ending_of(spec, common)
        options = choices_of(spec, self.ending, options or {})
        self.freezes = frozenset(label for label, g in self.groups.items() if g.freeze)
        check_numbers(spec, self.numbers, self.groups)
        switched_off = {h.name: None for h in spec.hypers if h.name not in self.numbers}
        chosen = tuple(sorted({**options, **switched_off}.items()))
        self.frozen_options = hashable(self.name, chosen)
        on = {h.name: h.name in self.numbers for h in spec.hypers}
        self.options = {**options, **on}
        active = spec.active_slots(self.options)
        self.slots = tuple(s for s in active if s.scope == "leaf")
        self.shared = tuple(s for s in active if s.scope == "group")
        self.ticks = spec.counts_under(self.options)
        skips = check_skips(spec.name, common.get("skips"))
        self.skips = skips if self.ticks else None
        values = [v for _, own in owners(self.numbers, self.groups) for v in own.values()]
        schedules = [v for v in values if is_schedule(v)]
        wanted = [e for s in schedules for e in getattr(s, "extra", ())]
        needed = spec.extra_under(self.options)
        self.metrics = metrics_of((*needed, *spec.optional, *wanted))
        self.seen, self.extra = (*needed, *spec.optional), (*dict.fromkeys((*needed, *wanted)),)
        codec = codec_for(spec, self.slots, common.get("state_dtype"))
        self.store = Store(spec.name, self.slots, self.options, codec)
        self.axes = check_axes(spec.name, common.get("axes"))
        check_looks(spec, self.axes, self.looks)
        self.fuses = check_kernel(spec, codec, common.get("kernel", "xla"))
        self.remembers = bool(active or schedules or self.ticks or self.store.rounds)
        # Any number may be a schedule's tomorrow, which has to know how old the run is.
        self.counts = self.ticks or bool(values) or self.store.rounds
        self._plans: dict[Any, Plan] = {}

    def remade(self, spec: Spec, ending: Ending, numbers: Mapping[str, Any] | None = None) -> Self:
        """The same rule under another declaration, less the numbers that this one lacks.

        `numbers` are those that it has beside.
        """
        prepare, options, arguments = self.made_of
        lacking = self.spec.by_name.keys() - spec.by_name.keys()
        kept = {k: v for k, v in arguments.items() if k not in lacking}
        return type(self)(spec, self.rule, prepare, options, {**kept, **(numbers or {})}, ending)

    @abc.abstractmethod
    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule to leaves of the same groups: what comes out of each.

        `shared` are the groups' own slots, of which it gives the new values, too.
        """

    def plan(self, layout: Layout, leaves: Leaves) -> Plan:
        """Which leaves it moves, with whose numbers, and what it keeps for them."""
        key = key_of_plan(layout, leaves)
        if key not in self._plans:
            if len(self._plans) >= KEPT:
                self._plans.clear()
            self._plans[key] = self._planned(layout, leaves)
        return self._plans[key]

    def _planned(self, layout: Layout, leaves: Leaves) -> Plan:
        labels = self.labels(layout, leaves)
        still = layout.still | self._frozen_by(labels)
        live = tuple(i for i in range(len(layout)) if i not in still)
        found = self.stacks(layout, leaves)
        check_params(self.spec, layout, leaves, live, found)
        holders = {s.name: self.store.holders(s, live, leaves, found) for s in self.slots}
        members = members_of(labels, live)
        return Plan(layout.paths, layout.names, labels, live, members, holders, found)

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
        outcomes: dict[int, Outcome] = {}
        for held, members in plan.members.items():
            if mine := [leaves[i] for i in members if i in leaves]:
                mine = self._with_numbers(mine, numbers[held], flow, counts)
                done = self._ran(mine, key_of(held), flow, node, new)
                if flow.params is None and self.spec.steps:
                    done = spoiled(self.spec, done, numbers[held])
                outcomes |= {x.index: out for x, out in zip(mine, done, strict=True)}
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
                stored, slots = self.store.before(node, flow.layout, i, like, stack)
                found[i] = Leaf(i, name, g, p, stored, slots, node.get("count"), add, stack)
        return found

    def _with_numbers(
        self, leaves: list[Leaf], numbers: dict[str, Array], flow: Flow, counts: Counts | None
    ) -> list[Leaf]:
        """The same, with what their rule reads beside."""
        known = {k: flow.extra.get(k) for k in self.seen} | numbers
        paths = [flow.layout.paths[x.index] for x in leaves]
        shapes = [tuple(x.g.shape) for x in leaves]
        options = dict(self.frozen_options)
        rows = read_by(self.name, self.prepare, known, options, counts, paths, shapes)
        return [replace(x, numbers=row) for x, row in zip(leaves, rows, strict=True)]

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
        if not self.spec.ageless:
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

    def frozen(self, layout: Layout, params: Leaves) -> frozenset[int]:
        """The leaves of frozen groups."""
        if not (self.spec.steps and self.freezes):
            return frozenset()
        return self._frozen_by(self.labels(layout, params))

    def labels(self, layout: Layout, leaves: Leaves) -> tuple[Labels, ...]:
        """The groups of each leaf."""
        labels = assign(self.name, self.groups, layout, leaves)
        check_composed(self.spec, self.numbers, self.groups, layout.names, labels)
        return labels

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """The places that the slots declare by their shape rules."""
        found = self.stacks(layout, params)
        return by_slots(self.slots, self.options, layout, params, node, self.store.codec, found)

    def stacks(self, layout: Layout, leaves: Leaves) -> Mapping[int, Stack]:
        """How leaves hold their tensors, of those that this part does not take as they are."""
        found = stacks(self.name, self.axes, self.whole, layout, leaves)
        return found if self.looks else {}

    def stack_of(self, name: str, leaf: Any) -> Stack | None:
        """The same of one leaf."""
        return stack_at(self.name, self.axes, self.whole, name, leaf) if self.looks else None

    @property
    def held(self) -> Held:
        """Its slots, as stacks read them."""
        return Held(self.slots, hashable(self.name, tuple(sorted(self.options.items()))))

    @property
    def whole(self) -> frozenset[str]:
        """The names of the slots that are of a leaf as it is, whatever tensors it holds."""
        return frozenset()

    @property
    def looks(self) -> bool:
        """Whether it looks at more than one entry of a tensor, so that `axes=` matters."""
        return not self.spec.elementwise

    def _entries(self) -> set[str]:
        return {s.name for s in (*self.slots, *self.shared)} | ({"count"} if self.counts else set())

    def _frozen_by(self, labels: Sequence[Labels]) -> frozenset[int]:
        return frozenset(i for i, held in enumerate(labels) if not self.freezes.isdisjoint(held))

    def _own(self, node: Node, labels: Labels) -> dict[str, Any]:
        return composed(self.name, own_numbers(node), own_factors(node), labels)
