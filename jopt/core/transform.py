"""The pair `init`/`update`, and what it is made of.

A `Transform` is a row of parts, each with a label. Its state is `{label: node}`, and a node
belongs to one part. A single optimizer has one part; `chain` sets rows end to end.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
from jax import Array

from jopt.base import ConfigError, Configured, StateError
from jopt.core.checks import as_array, check_gradient, is_sparse
from jopt.core.outline import is_stand_in, outline
from jopt.core.places import by_path
from jopt.core.tree import Layout, Tree, layout_of, match_leaves
from jopt.numerics import cast

T = TypeVar("T")
Node = dict[str, Any]
State = dict[str, Node]
Leaves = list[Any]
Add = Callable[[str, Any, Any], Any]
"""`add(name, p, u)`: the parameter after the update."""

ENTRYWISE: set[Add | None] = set()
"""Those that may add any piece of a parameter: what they do to an entry depends on it alone."""


@dataclass(frozen=True)
class Flow:
    """What passes from part to part: the leaves of one update, in the order of the layout.

    **Attributes:** `updates` (`None` where a leaf has no gradient), `params` (`None` if not
    given), `extra` (the extra arguments), `stepped` (whether `updates` are steps already).
    """

    layout: Layout
    updates: Leaves
    params: Leaves | None
    extra: Mapping[str, Any]
    stepped: bool = False

    def tree(self, leaves: Leaves) -> Tree:
        """These leaves in the containers of the parameters."""
        return self.layout.treedef.unflatten(leaves)

    def plus(self, updates: Leaves, add: Add) -> Leaves:
        """The parameters, each with its update added."""
        named = zip(self.layout.names, self.params or [], updates, strict=True)
        return [add(name, p, u) for name, p, u in named]


class Part(abc.ABC):
    """One stage of a transform. It sees lists of leaves, never trees."""

    name: str
    extra: tuple[str, ...] = ()

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


def through(parts: Mapping[str, Part], flow: Flow, state: State) -> tuple[Flow, State]:
    """The flow after all parts, one after the other, and their new nodes."""
    new: State = {}
    for label, part in parts.items():
        flow, new[label] = part.update(flow, state[label])
    return flow, new


def stepped(parts: Mapping[str, Part], flow: Flow, state: State, add: Add) -> tuple[Leaves, State]:
    """The same with the parameters the updates lead to: the last part adds them."""
    if not parts:
        return flow.plus(flow.updates, add), {}
    *first, (label, last) = parts.items()
    flow, new = through(dict(first), flow, state)
    leaves, new[label] = last.step(flow, state[label], add)
    return leaves, new


class Transform(Configured):
    """A gradient transformation: a pure `init`/`update` pair over pytrees.

    It holds no arrays and never changes. Transforms print as the call that made them, and
    compare, hash and pickle by it. Unpacking gives `init, update`, as optax's pairs do.

    >>> import jopt
    >>> tx = jopt.adamw(1e-3, weight_decay=0.1)
    >>> tx
    jopt.adamw(learning_rate=0.001, weight_decay=0.1)
    >>> tx == jopt.adamw(0.001, weight_decay=0.1)
    True
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)

    def __iter__(self) -> Iterator[Any]:
        yield self.init
        yield self.update

    @property
    def name(self) -> str:
        """What errors call it: the factory's name."""
        return self._call.name if self._call is not None else "+".join(self.parts)

    def init(self, params: Tree) -> State:
        """The state before the first step: `{label: {...}}`, nested dicts of arrays.

        **Arguments:**

        - `params`: any pytree of inexact arrays. Slots take the shape and sharding of the
          parameter, in at least float32. From `jax.ShapeDtypeStruct`s the state has the right
          structure, but no sharding, and what starts from a parameter's value starts from 0:
          see `jopt.sharding.init`.

        **Raises:** `TreeError` for integer or otherwise unfit leaves, `GroupError` if the
        groups do not fit.
        """
        if is_stand_in(params):
            return outline(self.init, params)
        layout, leaves = self.layout(params)
        return {label: part.init(layout, leaves) for label, part in self.parts.items()}

    def update(
        self, updates: T, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[T, State]:
        """One step: what to add to the parameters, and the next state.

        **Arguments:**

        - `updates`: the gradients, in the structure of `params`. A leaf may be `None`: that
          parameter is skipped wholly, as in torch; a zero gradient is not.
        - `state`: from `init` or the last `update`.
        - `params`: the parameters the gradients were taken at. Optimizers need them.
        - `**extra`: `value=`, `grad=`, `value_fn=` or `key=` for transforms that use them; the
          others ignore them.

        **Returns:** the updates, in the structure of `params`, and the new state. The step for
        a bfloat16 or float16 parameter is float32, so that `apply_updates` rounds only once.

        **Raises:** `TreeError` if gradients and parameters differ in structure, shape or kind
        of dtype, or `params` is missing; `StateError` for the state of another transform;
        `ConfigError` for an extra argument that a transform needs and does not get.
        """
        return self.updated(updates, state, params, extra)

    def updated(
        self,
        updates: T,
        state: State,
        params: Tree | None,
        extra: Mapping[str, Any],
        *,
        narrow: bool = False,
    ) -> tuple[T, State]:
        """See `update`; with `narrow`, steps too have the dtypes of the gradients."""
        flow = self.flow(updates, state, params, extra)
        given = flow.updates
        flow, new = through(self.parts, flow, state)
        wide = flow.stepped and not narrow
        done: T = flow.tree(flow.updates if wide else like_given(flow.updates, given))
        return done, new

    def flow(
        self, updates: Tree, state: State, params: Tree | None, extra: Mapping[str, Any]
    ) -> Flow:
        """What goes into the first part, checked; see `update` for the arguments."""
        self._check_extra(extra)
        self.check_labels(state)
        if params is None:
            layout = layout_of(self.name, updates)
            given = zip(layout.names, jax.tree.leaves(updates), strict=True)
            return Flow(layout, [as_array(self.name, n, x) for n, x in given], None, extra)
        layout, leaves = self.layout(params)
        grads = match_leaves(self.name, "the updates", layout, updates)
        pairs = zip(layout.names, grads, leaves, strict=True)
        return Flow(layout, [check_gradient(self.name, *pair) for pair in pairs], leaves, extra)

    def extend(self, state: State, params: Tree) -> State:
        """See `jopt.extend`."""
        self.check_labels(state)
        layout, leaves = self.layout(params)
        return {k: part.extend(layout, leaves, state[k]) for k, part in self.parts.items()}

    def layout(self, params: Tree) -> tuple[Layout, Leaves]:
        """The layout of the parameters, and their leaves in its order."""
        layout = layout_of(self.name, params)
        leaves = jax.tree.leaves(params)
        return layout, [
            as_array(self.name, n, x) for n, x in zip(layout.names, leaves, strict=True)
        ]

    def _check_extra(self, extra: Mapping[str, Any]) -> None:
        for part in self.parts.values():
            for name in part.extra:
                if extra.get(name) is None:
                    raise ConfigError(
                        part.name,
                        f"update needs {name}=",
                        found=", ".join(extra) or "none",
                        fix="optax hands extra arguments on to what is wrapped only: "
                        "jopt.interop.optax.wrap(tx).",
                    )

    def check_labels(self, state: State) -> None:
        """Raise `StateError` unless the state has a node for each part, and no others."""
        found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
        if found != sorted(self.parts):
            raise StateError(
                self.name,
                "this state belongs to another transform",
                expected=f"a dict with {', '.join(sorted(self.parts)) or 'no entries'}",
                found=f"a dict with {', '.join(found)}" if isinstance(found, list) else found,
                fix="Use the state that this transform's init or update returned.",
            )


def like_given(updates: Leaves, given: Leaves) -> Leaves:
    """Transformed gradients in the dtypes that the gradients came in."""

    def one(u: Any, g: Any) -> Any:
        if u is None or g is None:
            return u
        if is_sparse(u):
            return type(u)((cast(u.data, g.dtype), u.indices), shape=u.shape)
        return cast(u, g.dtype) if isinstance(u, Array) else u

    return [one(u, g) for u, g in zip(updates, given, strict=True)]


def moved(flow: Flow, updates: Leaves, *, steps: bool = False) -> Flow:
    """The flow with new updates; `steps` says that they are steps from now on."""
    return replace(flow, updates=updates, stepped=flow.stepped or steps)
