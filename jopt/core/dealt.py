"""A part that may keep what belongs to whole matrices in stacks, on the devices that own them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Self

from jax.sharding import Mesh

from jopt.base import StateError
from jopt.core.batches import RESTACK, Stacks
from jopt.core.codecs import fresh
from jopt.core.dealing import Deals, Told, born, closed, deals_of, opened, shares
from jopt.core.groups import Labels, key_of
from jopt.core.leaf import Leaf, Outcome
from jopt.core.offloaded import brought_in
from jopt.core.ownership import KEY, Deal, OwnedStack
from jopt.core.part import SpecPart
from jopt.core.plan import Plan
from jopt.core.spec import Slot
from jopt.core.stack import fitted
from jopt.core.transform import Add, Flow, Leaves, Node
from jopt.core.tree import Layout


class DealtPart(SpecPart):
    """A part of matrices that knows how these lie.

    **Attributes:** `told`: how leaves lie where their types do not say it, by name; `deals`:
    whether what is `owned` is in stacks; `alike`: whether tall matrices are turned over there.
    """

    told: Told = MappingProxyType({})
    deals: bool = False
    alike: bool = False

    def laid_out(self, told: Told, *, deals: bool = False) -> Self:
        """The same, told how the leaves of these names lie on a mesh."""
        made = copy.copy(self)
        made.told, made._plans = told, {}
        made.deals = deals and bool(made.dealt)
        return made

    @property
    def dealt(self) -> list[Slot]:
        """The slots that may be in stacks: those that are stored as they are computed."""

        def plain(slot: Slot) -> bool:
            free = slot.compress and not slot.dtype
            return not (free and self.store.codec.of(slot).rounds)

        return [slot for slot in self.slots if slot.owned and plain(slot)]

    @property
    def mesh(self) -> Any:
        """What the leaves were said to lie on."""
        return next((own.mesh for own in self.told.values()), None)

    @property
    def read(self) -> frozenset[str]:
        """The numbers that the work on whole matrices depends on."""
        return frozenset(self.numbers)

    def _planned(self, layout: Layout, leaves: Leaves) -> Plan:
        plan = super()._planned(layout, leaves)
        plan = replace(plan, sets=self._sets(plan))
        if not self.deals:
            return plan
        keys = [plan.set_of(labels) for labels in plan.labels]
        of = keys, plan.live, plan.stacks, self.told
        deals = deals_of(layout, leaves, *of, alike=self.alike)
        owners = [x.path for mine in deals.values() for deal in mine.values() for x in deal.owners]
        away, names = {*owners}, {slot.name for slot in self.dealt}
        holders = {
            name: tuple(i for i in mine if name not in names or plan.paths[i] not in away)
            for name, mine in plan.holders.items()
        }
        return replace(plan, holders=holders, deals=deals)

    def _sets(self, plan: Plan) -> dict[Labels, str]:
        """Groups whose matrices are worked on alike, whatever else is different about them."""
        if len(plan.members) < 2:
            return {}
        read = self.read
        of = {held: [x for x in held if read & {*self.groups[x].numbers}] for held in plan.members}
        return {held: key_of(tuple(mine)) for held, mine in of.items()}

    def init(self, layout: Layout, params: Leaves) -> Node:
        """See `SpecPart.init`."""
        node = super().init(layout, params)
        if not self.deals:
            return node
        plan = self.plan(layout, params)
        at = {path: i for i, path in enumerate(plan.paths)}
        stacks: dict[str, Stacks] = {}
        for group, mine in plan.deals.items():
            stacks[group] = {}
            for name, deal in mine.items():
                members = [at[owner.path] for owner in deal.owners]
                numbers = self._own(node, plan.labels[members[0]])
                stacks[group][name] = {
                    slot.name: self._first(slot, deal, members, plan, params, numbers)
                    for slot in self.dealt
                    if slot.held_by(deal.cls.shape, self.options)
                }
        return {**node, KEY: stacks} if stacks else node

    def _first(
        self,
        slot: Slot,
        deal: Deal,
        members: Sequence[int],
        plan: Plan,
        params: Leaves,
        numbers: Mapping[str, Any],
    ) -> OwnedStack:
        values: Any = numbers[slot.init] if isinstance(slot.init, str) else slot.init
        if callable(values):
            slots = {one.name: one for one in self.slots}
            names = zip(deal.names(slot.name, slot.turned), members, strict=True)
            own = [(fitted(slots[name], plan.stacks.get(i)), params[i]) for name, i in names]
            values = [fresh(mine, p, numbers, self.options) for mine, p in own]
        return born(slot, deal, values, params[members[0]], self.options, self.mesh)

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """See `SpecPart.extend`."""
        node = opened(node)
        if not self.deals:
            return super().extend(layout, params, node)
        new = self.laid_out(self.told).extend(layout, params, node)
        return self.closed(layout, params, new)

    def closed(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """A node that has one array a matrix, with its stacks."""
        deals = self.plan(layout, params).deals
        mesh = self.mesh if isinstance(self.mesh, Mesh) else None
        found: Node = closed(node, deals, self.dealt, mesh)
        return found

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """See `Part.places`."""
        found = super().places(layout, params, {k: v for k, v in node.items() if k != KEY})
        return {**found, KEY: shares(node[KEY])} if KEY in node else found

    def _ran(
        self, leaves: list[Leaf], key: str, flow: Flow, node: Node, new: Node
    ) -> list[Outcome]:
        mine = node.get(KEY, {}).get(key, {})
        if not mine:
            return super()._ran(leaves, key, flow, node, new)
        done, after = self.run(leaves, brought_in(mine), flow)
        new[KEY] = {**new[KEY], key: after}
        return done

    def _brought_in(self, plan: Plan, flow: Flow, node: Node, add: Add | None) -> dict[int, Leaf]:
        wanted = {k: mine for k, mine in plan.deals.items() if mine}
        found = {
            group: {name: next(iter(of.values())).deal for name, of in mine.items() if of}
            for group, mine in node.get(KEY, {}).items()
        }
        if found != wanted:
            raise StateError(
                self.name,
                "its stacks are of other parameters, or lie otherwise",
                expected=_listed(wanted),
                found=_listed(found),
                fix=RESTACK,
            )
        return super()._brought_in(plan, flow, node, add)


def _listed(deals: Deals) -> str:
    """Groups and classes, how many parameters each is of, and on how many devices."""
    lines = [
        f"{group}/{name}: {len(deal.owners)} parameters on {dict(deal.mesh)}"
        for group, mine in deals.items()
        for name, deal in mine.items()
    ]
    return "; ".join(lines) or "none"
