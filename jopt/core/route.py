"""Different transforms for different leaves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from jopt.base import ConfigError, StateError, configured
from jopt.core.asked import Asked
from jopt.core.chain import as_parts, unused_label
from jopt.core.groups import DEFAULT, Group, Match, alone, assign, group
from jopt.core.places import renumbered
from jopt.core.row import through
from jopt.core.transform import Flow, Leaves, Node, Part, Transform, check_transform, moved
from jopt.core.tree import Layout


@configured("jopt.")
def route(rest: Any, **routes: tuple[Match, Any]) -> Transform:
    """Send some leaves to one transform and the rest to another.

    **Arguments:**

    - `rest`: the transform of every leaf that no route takes.
    - `**routes`: `name=(match, tx)`: the leaves that `match` selects, a pattern or a predicate as
      in `jopt.group`, go to `tx`. A leaf may be taken once.

    **State:** `{"route": {"inner": {label: node}}}`, a node for each transform with its own
    leaves; `hyperparams` calls them `route/muon` and so on. `routing(tx, params)` tells which
    leaf goes where.

    **Raises:** `GroupError` for a route that takes no leaf, or a leaf taken twice.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.route(jopt.adamw(1e-3), matrices=("kernel$", jopt.muon(0.02)))
    >>> params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    >>> sorted(tx.init(params)["route"]["inner"])
    ['adamw', 'muon']
    >>> jopt.routing(tx, params)
    {'bias': 'rest', 'kernel': 'matrices'}
    """
    if DEFAULT in routes:
        raise ConfigError("route", f"a route cannot be called {DEFAULT!r}")
    for name, value in routes.items():
        if not (isinstance(value, tuple) and len(value) == 2):
            raise ConfigError(
                "route", f"route {name!r} is no pair", expected="(match, tx)", found=repr(value)
            )
    return Transform({"route": RoutePart(rest, routes)})


def routing(tx: Transform, params: Any) -> dict[str, str]:
    """The route of every leaf, by its path; `"rest"` for leaves that no route takes.

    Where the optimizer there sees a leaf otherwise than by its own axes, the route says as what:
    `"matrices: d (heads k)"`. Looks through chains; of several `jopt.route`s in one chain, it
    tells the first.
    """
    check_transform("routing", tx)
    for part in tx.parts.values():
        if isinstance(part, RoutePart):
            layout, leaves = tx.layout(params)
            labels = part.labels(layout, leaves)
            lines = part.lines(layout, leaves)
            routes = zip(layout.names, ("rest" if r == DEFAULT else r for r in labels), strict=True)
            return {n: f"{r}: {lines[n]}" if n in lines else r for n, r in routes}
    raise ConfigError("routing", "this transform routes nothing", found=repr(tx))


class RoutePart(Part):
    """Parts that each see their own leaves only."""

    name = "route"

    def __init__(self, rest: Any, routes: Mapping[str, tuple[Match, Any]]) -> None:
        self.groups: dict[str, Group] = {name: group(match) for name, (match, _) in routes.items()}
        self.labelled: dict[str, dict[str, Part]] = {}
        taken: set[str] = set()
        for name, tx in {**{n: tx for n, (_, tx) in routes.items()}, DEFAULT: rest}.items():
            self.labelled[name] = {}
            for label, part in as_parts(tx).items():
                chosen = unused_label(label, taken)
                taken.add(chosen)
                self.labelled[name][chosen] = part
        parts = [p for row in self.labelled.values() for p in row.values()]
        self.extra: tuple[str, ...] = tuple(dict.fromkeys(e for p in parts for e in p.extra))
        self.rests: bool = any(p.rests for p in parts)
        self.uneven: bool = self.rests
        self.buried: bool = any(p.moves or p.buried for p in parts)
        self.metrics: frozenset[str] = frozenset().union(*(p.metrics for p in parts))

    @property
    def choices(self) -> Mapping[str, Any]:
        """What each route matches."""
        return {name: g.match for name, g in self.groups.items()}

    @property
    def wrapped(self) -> Mapping[str, Part]:
        """The parts of all routes."""
        return {label: part for row in self.labelled.values() for label, part in row.items()}

    def altered(self, change: Callable[[Part], Part]) -> Self:
        """The same routes to changed parts."""
        made = copy.copy(self)
        made.labelled = {
            name: {label: part.altered(change) for label, part in row.items()}
            for name, row in self.labelled.items()
        }
        return made

    def labels(self, layout: Layout, leaves: Leaves) -> tuple[str, ...]:
        """The route of each leaf."""
        return alone(self.name, layout.names, assign(self.name, self.groups, layout, leaves))

    def lines(self, layout: Layout, leaves: Leaves) -> dict[str, str]:
        """How the parts of routes see leaves that they do not take as they are, by name."""
        found: dict[str, str] = {}
        for row, sub, members in self._split(layout, leaves):
            for part in row.values():
                if isinstance(part, Asked):
                    found |= part.lines(sub, [leaves[i] for i in members])
        return found

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The nodes of all routes, side by side under `inner`."""
        inner: Node = {}
        for row, sub, members in self._split(layout, params):
            mine = [params[i] for i in members]
            inner.update({label: part.init(sub, mine) for label, part in row.items()})
        return {"inner": inner}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """Each route's parts over its own leaves."""
        leaves = flow.updates if flow.params is None else flow.params
        updates: Leaves = list(flow.updates)
        inner: Node = {}
        stepped: set[bool] = set()
        for row, sub, members in self._split(flow.layout, leaves):
            params = None if flow.params is None else [flow.params[i] for i in members]
            extra = flow.seen_from(members, sub.treedef.unflatten, sub.treedef.flatten_up_to)
            mine = Flow(sub, [flow.updates[i] for i in members], params, extra, flow.stepped)
            mine, nodes = through(row, mine, node["inner"])
            inner.update(nodes)
            stepped.add(mine.stepped)
            for i, u in zip(members, mine.updates, strict=True):
                updates[i] = u
        return moved(flow, updates, steps=stepped == {True}), {"inner": inner}

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """Each route's nodes for its leaves now; a leaf that changed routes starts anew."""
        inner: Node = {}
        before = node["inner"]
        if not self.wrapped.keys() & before.keys():
            raise StateError(
                self.name,
                "the routes of this state are all others",
                expected=", ".join(self.wrapped),
                found=", ".join(before) or "none",
            )
        for row, sub, members in self._split(layout, params):
            mine = [params[i] for i in members]
            for label, part in row.items():
                old = before.get(label)
                new = part.init(sub, mine) if old is None else part.extend(sub, mine, old)
                inner[label] = new
        return {"inner": inner}

    def frozen(self, layout: Layout, params: Leaves) -> frozenset[int]:
        """The leaves that each route's parts freeze, counted among all leaves."""
        return frozenset(
            members[i]
            for row, sub, members in self._split(layout, params)
            for part in row.values()
            for i in part.frozen(sub, [params[i] for i in members])
        )

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """The places that each route's parts tell, counted among all leaves."""
        inner: Node = {}
        for row, sub, members in self._split(layout, params):
            mine = [params[i] for i in members]
            for label, part in row.items():
                found = part.places(sub, mine, node["inner"][label])
                inner[label] = renumbered(found, members)
        return {"inner": inner}

    def _split(
        self, layout: Layout, leaves: Leaves
    ) -> Iterator[tuple[dict[str, Part], Layout, list[int]]]:
        labels = self.labels(layout, leaves)
        for name, row in self.labelled.items():
            members = [i for i, k in enumerate(labels) if k == name or layout.stands_for_all]
            members.sort(key=lambda i: layout.paths[i])
            yield row, layout.part(members), members
