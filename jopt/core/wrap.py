"""What wrappers share: a part that holds a whole transform, its state under `inner`."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

from jopt.base import StateError
from jopt.core.chain import as_parts
from jopt.core.checks import check_gone
from jopt.core.nested import flatten_dict, has, lookup, merged
from jopt.core.paths import shown
from jopt.core.places import by_path
from jopt.core.row import stepped, through
from jopt.core.spec import NODE_KEYS
from jopt.core.transform import Add, Flow, Leaves, Node, Part
from jopt.core.tree import Layout


class WrapperPart(Part):
    """A part around the parts of another transform; subclasses say when those run.

    `own_init` gives the wrapper's own entries of the node, and `update` calls `inner_update`.
    """

    keeps = True  # the metrics of what rests, among its own entries

    def __init__(self, name: str, tx: Any) -> None:
        self.name = name
        self.inner: Mapping[str, Part] = as_parts(tx)
        parts = self.inner.values()
        self.extra: tuple[str, ...] = tuple(dict.fromkeys(e for p in parts for e in p.extra))
        self.rests: bool = any(p.rests for p in parts)
        self.uneven: bool = any(p.uneven for p in parts)
        self.buried: bool = any(p.moves or p.buried for p in parts)
        self.metrics: frozenset[str] = frozenset().union(*(p.metrics for p in parts))

    @property
    def wrapped(self) -> Mapping[str, Part]:
        """The parts inside."""
        return self.inner

    def altered(self, change: Callable[[Part], Part]) -> Self:
        """The same around changed parts."""
        made = copy.copy(self)
        made.inner = {label: part.altered(change) for label, part in self.inner.items()}
        return made

    def hearing(self, metrics: frozenset[str]) -> Self:
        """The same around parts that keep these metrics, which the wrapper then sees as well."""
        made = copy.copy(self)
        resting = {k: p.hearing(metrics) for k, p in self.inner.items() if p.rests}
        made.inner, made.metrics = {**self.inner, **resting}, self.metrics | metrics
        return made

    @abc.abstractmethod
    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """The wrapper's own entries before the first step."""

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The wrapper's own entries, and the wrapped state under `inner`."""
        inner = {label: part.init(layout, params) for label, part in self.inner.items()}
        return {**self.own_init(layout, params), "inner": inner}

    def _check_shapes(self, entry: str, fresh: Node, held: Node) -> None:
        for path, x in flatten_dict(fresh).items():
            found = getattr(lookup(held, path), "shape", None) if has(held, path) else x.shape
            if found != x.shape:
                raise StateError(
                    self.name,
                    f"{entry!r} in the state does not have the shape it should",
                    path=shown(path),
                    expected=tuple(x.shape),
                    found=found,
                )

    def check_own(self, node: Node, *entries: str) -> None:
        """Raise `StateError` unless a node has the wrapper's own entries."""
        expected = {*entries, "inner", *(["metrics"] if self.metrics and self.keeps else [])}
        found = {*node} - {"leaf_micro"} if isinstance(node, dict) else {type(node).__name__}
        if found != expected:
            raise StateError(
                self.name,
                "this state was made by another configuration",
                expected=", ".join(sorted(expected)),
                found=", ".join(sorted(map(str, found))),
                fix="If that is meant, carry it over: state = jopt.extend(tx, state, params).",
            )

    def inner_update(self, flow: Flow, inner: Node) -> tuple[Flow, Node]:
        """One step of the wrapped parts, one after the other."""
        return through(self.inner, flow, inner)

    def inner_step(self, flow: Flow, inner: Node, add: Add) -> tuple[Leaves, Node]:
        """The same, and the parameters with the updates added."""
        return stepped(self.inner, flow, inner, add)

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """Own entries of new leaves start anew; the rest and the wrapped state go on."""
        inner = {k: p.extend(layout, params, node["inner"][k]) for k, p in self.inner.items()}
        return {**self.own_extended(layout, params, node), "inner": inner}

    def own_extended(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """The wrapper's own entries for these parameters, as `node` has them where it does."""
        fresh = self.own_init(layout, params)
        for entry, tree in fresh.items():
            if isinstance(tree, dict) and entry not in NODE_KEYS:
                check_gone(self.name, node.get(entry, {}), (*layout.paths, *layout.elsewhere))
                self._check_shapes(entry, tree, node.get(entry, {}))
        return {k: merged(fresh[k], node[k]) if k in node else fresh[k] for k in fresh}

    def frozen(self, layout: Layout, params: Leaves) -> frozenset[int]:
        """The leaves that the wrapped parts freeze."""
        return frozenset(i for p in self.inner.values() for i in p.frozen(layout, params))

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """Own entries by path and shape; the wrapped state as its parts say."""
        own = {k: v for k, v in node.items() if k != "inner"}
        inner = {k: p.places(layout, params, node["inner"][k]) for k, p in self.inner.items()}
        return {**by_path(layout, params, own), "inner": inner}
