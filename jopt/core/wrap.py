"""What wrappers share: a part that holds a whole transform, its state under `inner`."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jopt.core.chain import as_parts
from jopt.core.places import by_path
from jopt.core.transform import Add, Flow, Leaves, Node, Part, stepped, through
from jopt.core.tree import Layout, merged


class WrapperPart(Part):
    """A part around the parts of another transform; subclasses say when those run.

    `own_init` gives the wrapper's own entries of the node, and `update` calls `inner_update`.
    """

    def __init__(self, name: str, tx: Any) -> None:
        self.name = name
        self.inner = as_parts(tx)
        parts = self.inner.values()
        self.extra = tuple(dict.fromkeys(e for p in parts for e in p.extra))

    @property
    def wrapped(self) -> Mapping[str, Part]:
        """The parts inside."""
        return self.inner

    @abc.abstractmethod
    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """The wrapper's own entries before the first step."""

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The wrapper's own entries, and the wrapped state under `inner`."""
        inner = {label: part.init(layout, params) for label, part in self.inner.items()}
        return {**self.own_init(layout, params), "inner": inner}

    def inner_update(self, flow: Flow, inner: Node) -> tuple[Flow, Node]:
        """One step of the wrapped parts, one after the other."""
        return through(self.inner, flow, inner)

    def inner_step(self, flow: Flow, inner: Node, add: Add) -> tuple[Leaves, Node]:
        """The same, and the parameters with the updates added."""
        return stepped(self.inner, flow, inner, add)

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """Own entries of new leaves start anew; the rest and the wrapped state go on."""
        inner = {k: p.extend(layout, params, node["inner"][k]) for k, p in self.inner.items()}
        own = merged(self.own_init(layout, params), node)
        return {**own, "inner": inner}

    def frozen(self, layout: Layout, params: Leaves) -> frozenset[int]:
        """The leaves that the wrapped parts freeze."""
        return frozenset(i for p in self.inner.values() for i in p.frozen(layout, params))

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """Own entries by path and shape; the wrapped state as its parts say."""
        own = {k: v for k, v in node.items() if k != "inner"}
        inner = {k: p.places(layout, params, node["inner"][k]) for k, p in self.inner.items()}
        return {**by_path(layout, params, own), "inner": inner}


def only_if(condition: jax.Array, new: Any, old: Any) -> Any:
    """`new` where `condition` holds, else `old`, leaf by leaf; what only `new` has stays."""
    if isinstance(new, dict):
        return {k: only_if(condition, v, old[k]) if k in old else v for k, v in new.items()}
    return jnp.where(condition, new, old)
