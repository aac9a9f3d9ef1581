"""Which of a transform's parts are optimizers that torch has, and which leaves they move."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jopt.base import CheckpointError, ConfigError
from jopt.checkpoint import differences
from jopt.checkpoint.leaves import join
from jopt.core import Transform
from jopt.core.boxes import taken_off
from jopt.core.groups import Labels
from jopt.core.part import SpecPart
from jopt.core.paths import shown
from jopt.core.spec_parts import spec_parts
from jopt.core.stack import Stack
from jopt.core.staged import check_bare
from jopt.core.transform import Node, State
from jopt.core.tree import Layout
from jopt.interop.torchfiles.flattened import is_optimizer


@dataclass(frozen=True)
class Target:
    """One optimizer inside a transform that torch has too, and the leaves that it moves.

    **Attributes:** `keys`, the labels down to its node; `part`; `layout` and `params`, its
    leaves; `groups`, the jopt groups of each; `live`, the leaves that are not frozen.
    """

    keys: tuple[str, ...]
    part: SpecPart
    layout: Layout
    params: list[Any]
    groups: tuple[Labels, ...]
    live: tuple[int, ...]

    @property
    def label(self) -> str:
        """As `jopt.hyperparams` calls it."""
        return shown(self.keys)

    @functools.cached_property
    def moving(self) -> frozenset[int]:
        """The leaves that are not frozen, to look one up."""
        return frozenset(self.live)

    @property
    def torch(self) -> str:
        """Torch's class, as errors show it."""
        return f"torch.optim.{self.part.spec.torch}"

    def node(self, state: State) -> Node:
        """Its node in a state."""
        return node_at(state, self.keys)

    @functools.cached_property
    def stacks(self) -> Mapping[int, Stack]:
        """The leaves that are several tensors to its rule."""
        return self.part.stacks(self.layout, self.params)

    def put(self, state: State, node: Node, keys: tuple[str, ...] | None = None) -> State:
        """The state with another node in its place."""
        head, *rest = self.keys if keys is None else keys
        if rest:
            inner = self.put(state[head]["inner"], node, tuple(rest))
            node = {**state[head], "inner": inner}
        return {**state, head: node}


def node_at(state: State, keys: tuple[str, ...]) -> Node:
    """The node to which these labels lead."""
    node: Node = {"inner": state}
    for key in keys:
        node = node["inner"][key]
    return node


def targets(who: str, tx: Any, params: Any) -> list[Target]:
    """Every optimizer that torch has among the parts of `tx`, wrapped and routed ones too."""
    if not isinstance(tx, Transform):
        kind = type(tx).__name__
        raise ConfigError(who, "tx is no transform", expected="a jopt.Transform", found=kind)
    layout, leaves = tx.layout(params)
    every = [*spec_parts(tx.parts, layout, list(leaves))]
    for here in every:
        check_bare(who, here.part, "torch")
    found = []
    for here in every:
        if here.part.spec.torch:
            groups = here.part.labels(here.layout, here.params)
            live = tuple(i for i, k in enumerate(groups) if here.part.freezes.isdisjoint(k))
            found.append(Target(here.keys, here.part, here.layout, here.params, groups, live))
    if not found:
        raise ConfigError(who, "torch has no optimizer that is part of this transform", found=tx)
    return found


def bare(who: str, tx: Transform, params: Any, state: State) -> State:
    """The state without boxes, or a `CheckpointError` that says why it is not the transform's."""
    state, _ = taken_off(state)
    if lines := [str(d) for d in differences(jax.eval_shape(tx.init, params), state)]:
        raise CheckpointError(who, join("the state is not of this transform", lines))
    return state


def by_label(who: str, found: list[Target], given: Any) -> dict[str, Any]:
    """The state dict of each target, of one or of several by their labels."""
    labels = [target.label for target in found]
    keys = list(given) if isinstance(given, Mapping) else []
    if set(keys) == set(labels):
        return dict(given)
    if len(found) == 1:
        return {labels[0]: given}
    raise CheckpointError(
        who,
        f"{len(found)} parts of the transform are optimizers of torch's",
        expected="a state dict for each: {" + ", ".join(f"{k!r}: ..." for k in labels) + "}",
        found=", ".join(map(str, keys)) or type(given).__name__,
    )


def checked(who: str, given: Any) -> list[Mapping[str, Any]]:
    """Torch's groups, of something that has the form of an optimizer's state dict."""
    if not is_optimizer(given):
        keys = list(given) if isinstance(given, Mapping) else [type(given).__name__]
        raise CheckpointError(
            who,
            "this is no state dict of a torch optimizer",
            expected="{'state': {...}, 'param_groups': [{'params': [...], ...}]}",
            found=", ".join(map(str, keys[:8])) or "an empty dict",
            fix="read_checkpoint takes it out of a file, a folder, a dict or a flattened state.",
        )
    return list(given["param_groups"])
