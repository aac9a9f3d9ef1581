"""What a part was asked for: the arguments of a spec and a rule, sorted, and where they apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from jopt.core.axes import Axes, AxesOf, Known, check_axes, check_looks, stack_at, stacks
from jopt.core.checks import check_params
from jopt.core.composed import check_composed
from jopt.core.counts import Skips, check_skips
from jopt.core.declared import Slot
from jopt.core.ending import Ending, choices_of, ending_of
from jopt.core.groups import Group, Labels, assign, check_groups, parted, switched
from jopt.core.kept_metrics import metrics_of
from jopt.core.kernels import check_kernel
from jopt.core.numbers import check_names, check_numbers, is_schedule, owners
from jopt.core.places import by_slots
from jopt.core.plan import KEPT, Plan, key_of_plan, members_of
from jopt.core.rules import check_rule, hashable
from jopt.core.slots import Store
from jopt.core.spec import Spec
from jopt.core.stack import Held, Stack
from jopt.core.storage import codec_for
from jopt.core.transform import Leaves, Node, Part
from jopt.core.tree import Layout


class Asked(Part):
    """A spec, a rule and the arguments of a call, each checked and where the part looks for it."""

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
        self.made_of: tuple[Any, ...] = prepare, options, arguments
        numbers, common = parted(arguments)
        self.spec = spec
        self.rule = rule
        self.prepare = prepare
        self.name: str = spec.name
        check_names(spec, numbers)
        self.groups: dict[str, Group] = check_groups(spec.name, common.get("groups"))
        self.numbers: dict[str, Any] = switched(spec, numbers, self.groups)
        self.ending: Ending = ending or ending_of(spec, common)
        options = choices_of(spec, self.ending, options or {})
        frozen = (label for label, g in self.groups.items() if g.freeze)
        self.freezes: frozenset[str] = frozenset(frozen)
        check_numbers(spec, self.numbers, self.groups)
        switched_off = {h.name: None for h in spec.hypers if h.name not in self.numbers}
        chosen = tuple(sorted({**options, **switched_off}.items()))
        self.frozen_options: tuple[tuple[str, Any], ...] = hashable(self.name, chosen)
        on = {h.name: h.name in self.numbers for h in spec.hypers}
        self.options: dict[str, Any] = {**options, **on}
        active = spec.active_slots(self.options)
        self.slots: tuple[Slot, ...] = tuple(s for s in active if s.scope == "leaf")
        self.shared: tuple[Slot, ...] = tuple(s for s in active if s.scope == "group")
        self.ticks: bool = spec.counts_under(self.options)
        skips = check_skips(spec.name, common.get("skips"))
        self.skips: Skips = skips if self.ticks else None
        values = [v for _, own in owners(self.numbers, self.groups) for v in own.values()]
        schedules = [v for v in values if is_schedule(v)]
        wanted = [e for s in schedules for e in getattr(s, "extra", ())]
        needed = spec.extra_under(self.options)
        self.metrics: frozenset[str] = metrics_of((*needed, *spec.optional, *wanted))
        self.seen: tuple[str, ...] = (*needed, *spec.optional)
        self.extra: tuple[str, ...] = (*dict.fromkeys((*needed, *wanted)),)
        codec = codec_for(spec, self.slots, common.get("state_dtype"))
        self.store: Store = Store(spec.name, self.slots, self.options, codec)
        axes = common.get("axes")
        self.axes: Axes = axes if isinstance(axes, AxesOf) else check_axes(spec.name, axes)
        check_looks(spec, self.axes, self.looks)
        self.fuses: bool = check_kernel(spec, codec, common.get("kernel", "xla"))
        self.remembers: bool = bool(active or schedules or self.ticks or self.store.rounds)
        # Any number may be a schedule's tomorrow, which has to know how old the run is.
        self.counts: bool = self.ticks or bool(values) or self.store.rounds
        self._plans: dict[Any, Plan] = {}

    def remade(
        self,
        spec: Spec,
        ending: Ending,
        numbers: Mapping[str, Any] | None = None,
        *,
        rule: Callable[..., Any] | None = None,
        prepare: Callable[[Any], dict[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """The same rule, or another, under another declaration, less the numbers that it lacks.

        `numbers` and `options` are those that it has beside.
        """
        before, own, arguments = self.made_of
        lacking = self.spec.by_name.keys() - spec.by_name.keys()
        kept = {k: v for k, v in arguments.items() if k not in lacking} | {**(numbers or {})}
        chosen = {**(own or {}), **options} if options else own
        return type(self)(spec, rule or self.rule, prepare or before, chosen, kept, ending)

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

    def labels(self, layout: Layout, leaves: Leaves) -> tuple[Labels, ...]:
        """The groups of each leaf."""
        labels = assign(self.name, self.groups, layout, leaves)
        check_composed(self.spec, self.numbers, self.groups, layout.names, labels)
        return labels

    def frozen(self, layout: Layout, params: Leaves) -> frozenset[int]:
        """The leaves of frozen groups."""
        if not (self.spec.steps and self.freezes):
            return frozenset()
        return self._frozen_by(self.labels(layout, params))

    def _frozen_by(self, labels: Sequence[Labels]) -> frozenset[int]:
        return frozenset(i for i, held in enumerate(labels) if not self.freezes.isdisjoint(held))

    def stacks(self, layout: Layout, leaves: Leaves) -> Mapping[int, Stack]:
        """How leaves hold their tensors, of those that this part does not take as they are."""
        found = stacks(self.name, self.axes, self.whole, layout, leaves)
        return found if self.looks else {}

    def lines(self, layout: Layout, leaves: Leaves) -> dict[str, str]:
        """How it sees leaves that it does not take as they are, by name, as `axes=` has it."""
        return {layout.names[i]: x.text for i, x in self.stacks(layout, leaves).items()}

    def stacked(self, known: Known) -> bool:
        """Whether it sees some of these leaves otherwise than as they are."""
        if not isinstance(self.axes, AxesOf):
            return self.looks and bool(self.axes)
        return any(self.stack_of(name, leaf, known) for name, leaf in known.items())

    def stack_of(self, name: str, leaf: Any, known: Known) -> Stack | None:
        """The same of one leaf."""
        if not self.looks:
            return None
        return stack_at(self.name, self.axes, self.whole, name, leaf, known)

    @property
    def whole(self) -> frozenset[str]:
        """The names of the slots that are of a leaf as it is, whatever tensors it holds."""
        return frozenset()

    @property
    def looks(self) -> bool:
        """Whether it looks at more than one entry of a tensor, so that `axes=` matters."""
        return not self.spec.elementwise

    @property
    def held(self) -> Held:
        """Its slots, as stacks read them."""
        return Held(self.slots, hashable(self.name, tuple(sorted(self.options.items()))))

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """The places that the slots declare by their shape rules."""
        found = self.stacks(layout, params)
        return by_slots(self.slots, self.options, layout, params, node, self.store.codec, found)
