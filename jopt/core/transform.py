"""The pair `init`/`update`, and what it is made of.

A `Transform` is a row of parts, each with a label. Its state is `{label: node}`, and a node
belongs to one part. A single optimizer has one part; `chain` sets rows end to end.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, Configured, StateError
from jopt.core.boxes import put_on, taken_off
from jopt.core.checks import as_array, check_examples, check_gradient
from jopt.core.extras import renamed
from jopt.core.flow import ENTRYWISE as ENTRYWISE
from jopt.core.flow import Add as Add
from jopt.core.flow import Flow as Flow
from jopt.core.flow import Leaves as Leaves
from jopt.core.flow import Node as Node
from jopt.core.flow import Part as Part
from jopt.core.flow import State as State
from jopt.core.flow import like_given as like_given
from jopt.core.flow import moved as moved
from jopt.core.offloaded import entered, left
from jopt.core.outline import is_stand_in, outline
from jopt.core.places import boxed
from jopt.core.row import through
from jopt.core.tree import Layout, Tree, layout_of, match_leaves
from jopt.numerics.explicit import on_mesh
from jopt.numerics.repeated import traced

T = TypeVar("T")


class Transform(Configured):
    """A gradient transformation: a pure `init`/`update` pair over pytrees.

    It holds no arrays and never changes. Transforms print as the call that made them, and
    compare, hash and pickle by it. Unpacking gives `init, update`, as optax's pairs do. The long
    form, with every default, is `tx.describe()`; a notebook shows it.

    >>> import jopt
    >>> tx = jopt.adamw(1e-3, weight_decay=0.1)
    >>> tx
    jopt.adamw(learning_rate=0.001, weight_decay=0.1)
    >>> tx == jopt.adamw(0.001, weight_decay=0.1)
    True
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        if not isinstance(parts, Mapping) or not all(isinstance(x, Part) for x in parts.values()):
            raise ConfigError(
                "Transform",
                "these are no parts",
                expected="{label: part}",
                found=repr(parts)[:200],
                fix="From a pair init, update: jopt.chain(optax.GradientTransformation(init, "
                "update)); from a rule for one leaf: jopt.leafwise.",
            )
        self.parts: dict[str, Part] = dict(parts)

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
          parameter, in at least float32, and flax's box if it is in one. From
          `jax.ShapeDtypeStruct`s the state has the right structure, but no sharding, and what
          starts from a parameter's value starts from 0: see `jopt.sharding.init`.

        **Raises:** `TreeError` for integer or otherwise unfit leaves, `GroupError` if the
        groups do not fit.
        """
        if is_stand_in(params):
            return outline(self.init, params)
        layout, leaves = self.layout(params)
        state = {label: part.init(layout, leaves) for label, part in self.parts.items()}
        if traced(leaves):
            # Of a number that is on no mesh `jax.vmap` would make many that are not split.
            state = jax.tree.map(on_mesh, state)
        return self.boxed(state, layout, leaves)

    def update(
        self, updates: T, state: State, params: Tree | None = None, **extra: Any
    ) -> tuple[T, State]:
        """One step: what to add to the parameters, and the next state.

        **Arguments:**

        - `updates`: the gradients, in the structure of `params`. A leaf may be `None`: that
          parameter is skipped wholly, as in torch; a zero gradient is not. Of complex parameters
          they are the conjugates of what `jax.grad` gives: see below.
        - `state`: from `init` or the last `update`.
        - `params`: the parameters the gradients were taken at. They may be missing where the
          step needs none: gradient transforms, optimizers without decay.
        - `**extra`: `value=`, `grad=`, `value_fn=` or `key=` for transforms that use them, and
          what else one asks for; the others ignore them. `obj_fn=` is optax's other name for
          `value_fn=`.

        **Returns:** the updates, in the structure of `params`, and the new state. The step for
        a bfloat16 or float16 parameter is float32, so that `apply_updates` rounds only once.

        **Raises:** `TreeError` if gradients and parameters differ in structure, shape or kind
        of dtype, or `params` is missing; `StateError` for the state of another transform;
        `ConfigError` for an extra argument that a transform needs and does not get.

        **Complex parameters:** a loss falls along minus the conjugate of `jax.grad`'s result,
        and rises in the imaginary parts along minus that result itself. torch's gradients are
        conjugated already, optax's and jopt's transforms take what they are given:

        >>> import jax, jax.numpy as jnp, jopt
        >>> tx, z = jopt.sgd(0.5), jnp.complex64(1 + 1j)
        >>> grads = jax.grad(lambda z: z.real**2 + z.imag**2)(z)
        >>> updates, _ = tx.update(jax.tree.map(jnp.conj, grads), tx.init(z), z)
        >>> jopt.apply_updates(z, updates)  # the minimum; without conj it is 2j
        Array(0.+0.j, dtype=complex64)
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
        state, boxes = taken_off(state)
        flow = self.flow(updates, state, params, extra)
        given = flow.updates
        flow, new = through(self.parts, flow, entered(self.parts, state))
        new = left(new, state)
        wide = flow.stepped and not narrow
        out = list(flow.updates) if wide else like_given(flow.updates, given)
        still = flow.layout.still
        like = (flow.params or self.layout(updates)[1]) if still else []
        given = match_leaves(self.name, "the updates", flow.layout, updates) if still else given
        for i in still:
            out[i] = _zero(like[i], given[i] if narrow else None)
        done: T = flow.tree(out)
        return done, put_on(new, boxes)

    def flow(
        self, updates: Tree, state: State, params: Tree | None, extra: Mapping[str, Any]
    ) -> Flow:
        """What goes into the first part, checked; see `update` for the arguments."""
        extra = renamed(extra)
        self._check_extra(extra)
        self.check_labels(state, params)
        if params is None:
            layout, given = self.layout(updates)
            still = layout.still
            return Flow(
                layout, [None if i in still else g for i, g in enumerate(given)], None, extra
            )
        layout, leaves = self.layout(params)
        grads = match_leaves(self.name, "the updates", layout, updates)
        first = next(iter(self.parts.values()), None)
        check = check_examples if first is not None and first.by_example else check_gradient
        checked: Leaves = [None] * len(layout)
        # What a frozen leaf has in place of a gradient counts nowhere.
        for i in (i for i in range(len(layout)) if i not in layout.still):
            checked[i] = check(self.name, layout.names[i], grads[i], leaves[i])
        return Flow(layout, checked, leaves, extra)

    def extend(self, state: State, params: Tree) -> State:
        """See `jopt.extend`."""
        state, _ = taken_off(state)
        self.check_labels(state, params)
        layout, leaves = self.layout(params)
        new = {k: part.extend(layout, leaves, state[k]) for k, part in self.parts.items()}
        return self.boxed(new, layout, leaves)

    def boxed(self, state: State, layout: Layout, params: Leaves) -> State:
        """The state with flax's boxes around the slots of parameters that have them."""
        if not layout.boxes:
            return state
        places = {k: part.places(layout, params, state[k]) for k, part in self.parts.items()}
        return boxed(layout, params, state, places)  # type: ignore[no-any-return]

    def layout(self, params: Tree) -> tuple[Layout, Leaves]:
        """The layout of the parameters, and their leaves in its order."""
        layout = layout_of(self.name, params)
        named = zip(layout.names, jax.tree.leaves(params), strict=True)
        leaves = [as_array(self.name, n, x) for n, x in named]
        still = [part.frozen(layout, leaves) for part in self.parts.values()]
        shapes = tuple(jax.ShapeDtypeStruct(tuple(x.shape), x.dtype) for x in leaves)
        return replace(layout, still=frozenset().union(*still), shapes=shapes), leaves

    def _check_extra(self, extra: Mapping[str, Any]) -> None:
        for part in self.parts.values():
            for name in part.extra:
                if extra.get(name) is None:
                    raise ConfigError(
                        part.name,
                        f"update needs {name}=",
                        found=", ".join(extra) or "none",
                        fix="Give it to update; optax hands it on only to what "
                        "jopt.interop.optax.wrap makes.",
                    )

    def check_labels(self, state: State, params: Any = None) -> None:
        """Raise `StateError` unless the state has a node for each part, and no others."""
        known = isinstance(state, Mapping)
        found = sorted(map(str, state)) if known else type(state).__name__
        if found != sorted(self.parts) or not all(isinstance(k, str) for k in state):
            swapped = isinstance(params, Mapping) and sorted(map(str, params)) == sorted(self.parts)
            raise StateError(
                self.name,
                "this state belongs to another transform",
                expected=f"a dict with {', '.join(sorted(self.parts)) or 'no entries'}",
                found=f"a dict with {', '.join(found)}" if isinstance(found, list) else found,
                fix="The state seems to stand in the place of the parameters."
                if swapped
                else "Use the state that this transform's init or update returned.",
            )


def check_transform(who: str, tx: Any) -> None:
    """Raise `ConfigError` for anything but a transform of jopt's."""
    if isinstance(tx, Transform):
        return
    raise ConfigError(
        who,
        "this is no jopt transform",
        expected="a jopt.Transform",
        found=repr(tx)[:200],
        fix="Call the factory: jopt.adamw(1e-3), not jopt.adamw."
        if inspect.isfunction(tx)
        else "Wrap a foreign one: jopt.chain(tx).",
    )


def _zero(x: Any, g: Any = None) -> Any:
    """The update of a leaf that stays; `None` where nothing can be added, as to random keys.

    It has the dtype of the gradient `g`, if there is one.
    """
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return None
    of = getattr(g, "dtype", x.dtype)
    return jnp.zeros_like(x, of if jnp.issubdtype(of, jnp.inexact) else x.dtype)
