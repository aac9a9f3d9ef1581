"""What a transform is made of, and what passes through it: parts, and the flow of one update."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from jax import Array

from jopt.core.checks import on_values
from jopt.core.extras import FUNCTIONS, TREES
from jopt.core.places import by_path
from jopt.core.tree import Layout, Tree, match_leaves
from jopt.numerics import cast

Node = dict[str, Any]
"""What one part keeps: numbers, counts, and a tree for each slot."""
State = dict[str, Node]
"""The state of a transform: the node of each of its parts by label."""
Leaves = list[Any]
"""The leaves of a tree in the order of its layout; `None` for one that is absent."""
Add = Callable[[str, Any, Any], Any]
"""`add(name, p, u)`: the parameter after the update."""

ENTRYWISE: set[Add | None] = set()
"""Those that may add any piece of a parameter: what they do to an entry depends on it alone."""


@dataclass(frozen=True)
class Flow:
    """What passes from part to part: the leaves of one update, in the order of the layout.

    **Attributes:** `updates` (`None` where a leaf has no gradient, or is frozen), `params` (`None`
    if not given), `extra` (the extra arguments), `stepped` (whether `updates` are steps already),
    `took` (whether what came before took a step at this update; `None` if it always does). A part
    never finds `took` set: what stands behind a part that sets it runs as if there had been a
    step, and is taken back where there was none.
    """

    layout: Layout
    updates: Leaves
    params: Leaves | None
    extra: Mapping[str, Any]
    stepped: bool = False
    took: Array | None = None

    def tree(self, leaves: Leaves) -> Tree:
        """These leaves in the containers of the parameters."""
        return self.layout.treedef.unflatten(leaves)

    def plus(self, updates: Leaves, add: Add) -> Leaves:
        """The parameters, each with its update added; frozen ones as they are."""
        named = enumerate(zip(self.layout.names, self.params or [], updates, strict=True))
        return [each[1] if i in self.layout.still else add(*each) for i, each in named]

    def seen_from(
        self,
        members: Sequence[int],
        tree: Callable[[Leaves], Tree],
        leaves: Callable[[Tree], Leaves],
    ) -> dict[str, Any]:
        """The extra arguments for a part that sees these leaves only, as a `tree` of its own.

        Of a tree like the parameters it gets its leaves; a function of all parameters is one of
        its leaves, the others staying as they are.
        """
        extra, params = dict(self.extra), self.params
        for name, what in TREES.items():
            if extra.get(name) is not None:
                whole = match_leaves("update", what, self.layout, extra[name])
                extra[name] = tree([whole[i] for i in members])

        def of_members(function: Callable[..., Any], params: Leaves) -> Callable[..., Any]:
            def of_mine(mine: Tree, *rest: Any) -> Any:
                all_of_them = list(params)
                for i, x in zip(members, leaves(mine), strict=True):
                    all_of_them[i] = x
                return function(self.tree(all_of_them), *rest)

            return of_mine

        for name in FUNCTIONS:
            if extra.get(name) is not None and params is not None:
                extra[name] = of_members(extra[name], params)
        return extra


class Part(abc.ABC):
    """One stage of a transform. It sees lists of leaves, never trees."""

    name: str
    extra: tuple[str, ...] = ()

    rests: bool = False
    """Whether there are updates at which it takes no step (`Flow.took`)."""

    leads: bool = False
    """Whether it runs what stands behind it itself, to spare it where no step is taken."""

    uneven: bool = False
    """Whether it takes a step for some leaves at updates at which others rest."""

    moves: bool = False
    """Whether it moves parameters at updates at which it takes no step; then it leads."""

    buried: bool = False
    """Whether a part inside of it `moves`, which then leads nothing that is behind it."""

    remembers: bool = True
    """Whether what it does depends on earlier updates."""

    cheap: bool = False
    """Whether to run it and choose costs less than a branch around it: it reads and writes once."""

    streams: bool = False
    """Whether it brings in by itself what of its node rests in the host's memory."""

    by_example: bool = False
    """Whether its gradients have a first axis more: those of single examples. It stands first."""

    metrics: frozenset[str] = frozenset()
    """The extra arguments, each one number an update, that it wants to see."""

    @property
    def choices(self) -> Mapping[str, Any]:
        """The static choices that a checkpoint records, beside what a spec declares."""
        return {}

    @property
    def wrapped(self) -> Mapping[str, Part]:
        """The parts whose nodes stand under `inner`, by label."""
        return {}

    @abc.abstractmethod
    def init(self, layout: Layout, params: Leaves) -> Node:
        """The node for these parameters."""

    @abc.abstractmethod
    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """The flow after this stage, and the new node."""

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """The parameters once this stage's updates are added to them, and the new node.

        A part that leaves them alone at times can spare reading and writing them.
        """
        after, node = self.update(flow, node)
        return flow.plus(after.updates, add), node

    @abc.abstractmethod
    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """The node for parameters that have gained leaves since `node`."""

    def frozen(self, layout: Layout, params: Leaves) -> frozenset[int]:
        """The leaves that this stage keeps where they are."""
        return frozenset()

    def places(self, layout: Layout, params: Leaves, node: Node) -> Any:
        """A `Place` for each array of `node`: whose axes it runs along, for its sharding."""
        return by_path(layout, params, node)

    def altered(self, change: Callable[[Part], Part]) -> Part:
        """The same with `change` made to it; what holds other parts, has it made to those."""
        return change(self)

    def hearing(self, metrics: frozenset[str]) -> Self:
        """The same part, keeping these metrics for what stands behind while it rests."""
        return self

    def lead(
        self, flow: Flow, node: Node, rest: Mapping[str, Part], nodes: State
    ) -> tuple[Flow, Node, State]:
        """`update`, and the same for the parts behind."""
        raise NotImplementedError

    def lead_step(
        self, flow: Flow, node: Node, rest: Mapping[str, Part], nodes: State, add: Add
    ) -> tuple[Leaves, Node, State]:
        """`step`, and the same for the parts behind."""
        raise NotImplementedError


def like_given(updates: Leaves, given: Leaves) -> Leaves:
    """Transformed gradients in the dtypes that the gradients came in."""

    def one(u: Any, g: Any) -> Any:
        if u is None or g is None:
            return u
        return on_values(u, lambda x: cast(x, g.dtype) if isinstance(x, Array) else x)

    return [one(u, g) for u, g in zip(updates, given, strict=True)]


def moved(flow: Flow, updates: Leaves, *, steps: bool = False) -> Flow:
    """The flow with new updates; `steps` says that they are steps from now on."""
    return replace(flow, updates=updates, stepped=flow.stepped or steps)
