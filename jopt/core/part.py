"""The part that a `Spec` describes: its node of state, and what surrounds every rule."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import jax.numpy as jnp
from jax import Array

from jopt.core.absent import check_spared, seen, spoil
from jopt.core.checks import check_node, check_params, check_rows, check_slot, check_slot_names
from jopt.core.codecs import codec_for, fresh
from jopt.core.composed import check_composed, composed
from jopt.core.counts import Counts, check_skips, skipping, ticked
from jopt.core.ending import Ending, choices_of, ending_of
from jopt.core.groups import Labels, assign, check_groups, key_of, parted, switched
from jopt.core.in_force import extended_numbers, init_numbers, read_numbers
from jopt.core.kernels import check_kernel
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
from jopt.core.rules import check_rule, prepared
from jopt.core.side_by_side import Numbers, handed_out, side_by_side
from jopt.core.slots import Store, stand_in
from jopt.core.spec import Slot, Spec
from jopt.core.transform import Add, Flow, Leaves, Node, Part, moved
from jopt.core.tree import Layout, Path, lookup, merged, nest
from jopt.core.work import Work, given_back
from jopt.numerics import number_dtype


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
        self.frozen_options = tuple(sorted({**options, **switched_off}.items()))
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
        codec = codec_for(spec.name, common.get("state_dtype"))
        self.store = Store(spec.name, self.slots, self.options, codec)
        self.fuses = check_kernel(spec, codec, common.get("kernel", "xla"))
        self.remembers = bool(active or schedules or self.ticks or self.store.rounds)
        # Any number may be a schedule's tomorrow, which has to know how old the run is.
        self.counts = self.ticks or bool(values) or self.store.rounds

    def remade(self, spec: Spec, ending: Ending, numbers: Mapping[str, Any] | None = None) -> Self:
        """The same rule under another declaration, less the numbers that this one lacks.

        `numbers` are those that it has beside.
        """
        prepare, options, arguments = self.made_of
        lacking = self.spec.by_name.keys() - spec.by_name.keys()
        kept = {k: v for k, v in arguments.items() if k not in lacking}
        return type(self)(spec, self.rule, prepare, options, {**kept, **(numbers or {})}, ending)

    @abc.abstractmethod
    def run(self, work: list[Work], shared: dict[str, Array], flow: Flow) -> dict[str, Array]:
        """Apply the rule to the leaves of the same groups, filling `update` and `slots` of each.

        `shared` are their own slots; returns their new values.
        """

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The node: the step count, the numbers, and one tree for each slot."""
        labels = self.labels(layout, params)
        live = self._live(layout, labels)
        check_params(self.spec, layout, params, live)
        node: Node = {"count": jnp.int32(0)} if self.counts else {}
        node.update(init_numbers(self.spec, self.numbers, self.groups))
        skips = skipping(self.name, self.skips, layout, params, live)
        node.update(Counts(node).grown((), skips, ()))
        for slot in self.slots:
            holders = self.store.holders(slot, live, params)
            leaves = [
                self.store.first(slot, params[i], self._own(node, labels[i])) for i in holders
            ]
            node[slot.name] = nest([layout.paths[i] for i in holders], leaves)
        for slot in self.shared:
            node[slot.name] = {
                key_of(k): fresh(slot, stand_in(members), self._own(node, k), self.options)
                for k, members in self._members(labels, live, params).items()
            }
        return node

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """One step of the rule over all live leaves."""
        work, leaves, new = self._turn(flow, node, None)
        return moved(flow, given_back(self.spec, flow, leaves, work), steps=self.spec.steps), new

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """The same, and the parameters with the updates added: by the door where it can."""
        work, leaves, new = self._turn(flow, node, add)
        updates = given_back(self.spec, flow, leaves, work)
        by_door = {i: w.moved for i, w in work.items() if w.moved is not None}
        leaves = flow.plus([None if i in by_door else u for i, u in enumerate(updates)], add)
        return [by_door.get(i, p) for i, p in enumerate(leaves)], new

    def _turn(
        self, flow: Flow, node: Node, add: Add | None
    ) -> tuple[dict[int, Work], Leaves, Node]:
        leaves = self._leaves(flow)
        labels = self.labels(flow.layout, leaves)
        live = self._live(flow.layout, labels)
        check_params(self.spec, flow.layout, leaves, live)
        check_node(self.name, node, self._entries())
        new: Node = dict(node)
        step = node.get("count", jnp.int32(0))
        used = [labels[i] for i in live]
        numbers, entries = read_numbers(
            self.name, node, self.numbers, self.groups, step, flow.extra, used
        )
        new.update(entries)
        if self.counts:
            new["count"] = ticked(step)
        work = self._work(flow, node, live, add)
        counts = Counts(node) if self.ticks else None
        for held, mine in self._members(labels, list(work), work).items():
            self._give_numbers(mine, numbers[held], flow, counts)
            key = key_of(held)
            shared = {s.name: node[s.name][key] for s in self.shared}
            for name, value in self.run(mine, shared, flow).items():
                new[name] = {**new[name], key: value.astype(shared[name].dtype)}
            if flow.params is None and self.spec.steps:
                spoil(self.spec, mine, numbers[held])
        if counts is not None:
            idle = [i for i in live if i not in work]
            if not self.spec.ageless:
                counts.check_idle(self.name, flow.layout, idle)
            new.update(counts.after(flow.layout.paths[i] for i in idle))
        for slot in self.slots:
            holders = self.store.holders(slot, live, leaves)
            own = [flow.layout.paths[i] for i in holders]
            check_slot(self.name, slot.name, node[slot.name], own)
            stored = [
                self.written(slot, work[i])
                if i in work
                else lookup(node[slot.name], flow.layout.paths[i])
                for i in holders
            ]
            new[slot.name] = nest(own, stored)
        return work, leaves, new

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """A fresh node with everything that `node` has; leaves it lacks start at step one."""
        labels = self.labels(layout, params)
        new = self.init(layout, params)
        live = self._live(layout, labels)
        check_slot_names(self.name, node, {s.name for s in (*self.slots, *self.shared)})
        new.update(self.store.extended(new, node, layout, params, live))
        for key in ("count", *(s.name for s in self.shared)):
            if key in new and key in node:
                new[key] = merged(new[key], node[key])
        new.update(extended_numbers(self.name, new, node, self.numbers, self.groups))
        if self.ticks:
            joined = self.store.joined(node, layout, params, live) if self.slots else []
            skips = skipping(self.name, self.skips, layout, params, live)
            new.pop("leaf_count", None)
            new.update(Counts(node).grown(joined, skips, {layout.paths[i] for i in live}))
        return new

    def frozen(self, layout: Layout, params: Leaves) -> frozenset[int]:
        """The leaves of frozen groups."""
        if not (self.spec.steps and self.freezes):
            return frozenset()
        labels = self.labels(layout, params)
        return frozenset(i for i, held in enumerate(labels) if not self.freezes.isdisjoint(held))

    def labels(self, layout: Layout, leaves: Leaves) -> tuple[Labels, ...]:
        """The groups of each leaf."""
        labels = assign(self.name, self.groups, layout, leaves)
        check_composed(self.spec, self.numbers, self.groups, layout.names, labels)
        return labels

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """The places that the slots declare by their shape rules."""
        return by_slots(self.slots, self.options, layout, params, node, self.store.codec)

    def _entries(self) -> set[str]:
        return {s.name for s in (*self.slots, *self.shared)} | ({"count"} if self.counts else set())

    def _leaves(self, flow: Flow) -> Leaves:
        if flow.params is not None:
            return flow.params
        check_spared(self.spec, self.numbers, self.groups)
        return flow.updates

    def _live(self, layout: Layout, labels: tuple[Labels, ...]) -> list[int]:
        frozen = (not self.freezes.isdisjoint(held) for held in labels)
        return [i for i, off in enumerate(frozen) if not off and i not in layout.still]

    def _members(
        self, labels: Sequence[Labels], live: list[int], of: Any
    ) -> dict[Labels, list[Any]]:
        """What `of` holds for each live leaf, by its groups."""
        members: dict[Labels, list[Any]] = {}
        for i in live:
            members.setdefault(labels[i], []).append(of[i])
        return members

    def _own(self, node: Node, labels: Labels) -> dict[str, Any]:
        return composed(self.name, own_numbers(node), own_factors(node), labels)

    def _work(self, flow: Flow, node: Node, live: list[int], add: Add | None) -> dict[int, Work]:
        work: dict[int, Work] = {}
        for i in live:
            if flow.updates[i] is not None:
                name, rows = flow.layout.names[i], self.spec.sparse == "rows"
                check_rows(self.name, name, flow.updates[i], rows)
                p = seen(self.spec, flow, i)
                like = flow.updates[i] if p is None else p
                shape = tuple(like.shape)
                held = [s for s in self.slots if s.held_by(shape)]
                stored = {s.name: self.store.found(s, node, flow.layout, i) for s in held}
                slots = self.store.decoded_all(stored, name, like)
                step = node.get("count")
                work[i] = Work(i, flow.updates[i], p, slots, stored, step=step, add=add)
        return work

    def written(self, slot: Slot, w: Work) -> Any:
        """What the state holds of a slot after this step."""
        if slot.name in w.written:
            return w.written[slot.name]
        value, measured = w.slots[slot.name], w.measured.get(slot.name)
        return self.store.written(slot, value, w.g, w.p, w.step, measured)

    def _give_numbers(
        self, work: list[Work], numbers: dict[str, Array], flow: Flow, counts: Counts | None
    ) -> None:
        seen = {k: flow.extra.get(k) for k in self.seen} | numbers

        def made(path: Path) -> Numbers:
            h: dict[str, Any] = dict(seen)
            if counts is not None:
                h["t"] = counts.t(path).astype(number_dtype())
            known = SimpleNamespace(**h, **dict(self.frozen_options))
            return side_by_side(
                h | (prepared(self.name, self.prepare, known) if self.prepare else {})
            )

        # Leaves of one age share one computation: equal leaves stay equal to the compiler.
        shared: dict[Any, Numbers] = {}
        paths = [flow.layout.paths[w.index] for w in work]
        ages = [counts.age(path) if counts is not None else None for path in paths]
        for age, path in zip(ages, paths, strict=True):
            if age not in shared:
                shared[age] = made(path)
        shapes = [tuple(w.g.shape) for w in work]
        for w, row in zip(work, handed_out(shared, ages, shapes), strict=True):
            w.numbers = row
