"""Setting transforms end to end, and letting foreign ones in."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from jopt.base import ConfigError, Configured, TreeError, configured
from jopt.core.nested import lookup, nest
from jopt.core.transform import Flow, Leaves, Node, Part, Transform, like_given, moved
from jopt.core.tree import Layout, layout_of, match_leaves


@configured("jopt.")
def chain(*transforms: Any, **named: Any) -> Transform:
    """Apply transforms one after the other; the state is `{label: {...}}`, one entry for each.

    **Arguments:**

    - `*transforms`: jopt transforms, chains (which dissolve into this one), or any object with
      `init` and `update`, such as an optax transform. The label is the transform's name; a
      second one of the same name gets `_2`, and so on. Foreign ones are called `foreign`.
    - `**named`: the same, with a label of your choice.

    **Raises:** `ConfigError` for something without `init` and `update`.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.sgd(0.1))
    >>> tx
    jopt.chain(jopt.clip_by_global_norm(max_norm=1.0), jopt.sgd(learning_rate=0.1))
    >>> sorted(tx.init({"w": jnp.ones(3)}))
    ['clip_by_global_norm', 'sgd']
    """
    parts: dict[str, Part] = {}
    for tx in transforms:
        for label, part in as_parts(tx).items():
            parts[unused_label(label, parts)] = part
    for label, tx in named.items():
        found = as_parts(tx)
        for inner, part in found.items():
            chosen = label if len(found) == 1 else f"{label}_{inner}"
            if chosen in parts:
                raise ConfigError("chain", f"two transforms are called {chosen!r}")
            parts[chosen] = part
    return Transform(_acquainted(parts))


def _acquainted(parts: dict[str, Part]) -> dict[str, Part]:
    """The parts, each that may rest knowing what those behind it want to hear of then."""
    wanted: frozenset[str] = frozenset()
    remembering: Part | None = None
    behind: Part | None = None
    for label, part in reversed(parts.items()):
        if part.buried and behind is not None:
            raise _buried(part, behind)
        behind = part
        if part.uneven and remembering is not None:
            raise _uneven(part, remembering)
        if part.rests and wanted - part.metrics:
            parts[label] = part.hearing(wanted)
        wanted |= part.metrics
        remembering = part if part.remembers else remembering
    return parts


def _buried(part: Part, behind: Part) -> ConfigError:
    who = behind.name
    return ConfigError(
        who,
        f"it stands behind {part.name}, inside of which parameters move without a step",
        expected="nothing behind what is around it",
        found=f"{who} behind {part.name}, with sam or asam in_turn=True inside",
        fix=f"Put {who} inside of that, around the optimizer, which then sees steps only.",
    )


def _uneven(part: Part, behind: Part) -> ConfigError:
    who = behind.name
    return ConfigError(
        who,
        "it stands behind routes of which some rest at updates at which others step",
        expected="one answer to whether there was a step, for all leaves",
        found=f"{who} behind {part.name}, with accumulate or skip_nonfinite inside a route",
        fix=f"Put those around all routes, and {who} outside of them: {who}(accumulate(route(...), "
        f"every)); or {who} into each route.",
    )


def as_parts(tx: Any) -> Mapping[str, Part]:
    """The parts of a transform; a foreign object with `init` and `update` is one part."""
    if isinstance(tx, Transform):
        return tx.parts
    alike = callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))
    if alike and not isinstance(tx, Configured | type):  # a plateau has both, for numbers
        return {"foreign": ForeignPart(tx)}
    raise ConfigError(
        "chain",
        "this is no transform",
        expected="something with init(params) and update(updates, state, params)",
        found=repr(tx)[:200],
        fix="Did you mean chain(*[...])?"
        if isinstance(tx, list | tuple)
        else "Call the factory: jopt.adamw(1e-3), not jopt.adamw."
        if callable(tx)
        else None,
    )


def unused_label(label: str, taken: Container[str]) -> str:
    """`label`, or with the first of `_2`, `_3`, ... that is not taken."""
    if label not in taken:
        return label
    n = 2
    while f"{label}_{n}" in taken:
        n += 1
    return f"{label}_{n}"


class ForeignPart(Part):
    """A transform of another library; its state is renamed leaf by leaf to a nested dict."""

    name = "foreign"

    def __init__(self, tx: Any) -> None:
        self.tx = tx
        self.metrics: frozenset[str] = frozenset({"value"} if _takes_extra(tx) else ())

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The foreign state as a nested dict."""
        return self._named(self.tx.init(_moving(layout, params)))

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """One foreign step. Gradients are handed over in the parameters' dtypes."""
        given = (
            flow.updates
            if flow.params is None or flow.stepped
            else like_given(flow.updates, flow.params)
        )
        params = None if flow.params is None else _moving(flow.layout, flow.params)
        like = flow.tree(given) if params is None else params
        state = self._restored(self._layout(like), node)
        extra = _extra(flow) if _takes_extra(self.tx) else {}
        before = state
        updates, state = self.tx.update(flow.tree(given), state, params, **extra)
        leaves = match_leaves(self.name, "the foreign updates", flow.layout, updates)
        after = moved(flow, leaves, steps=flow.stepped)
        return replace(after, took=_took(before, state)), self._named(state)

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """Refused: only the foreign transform knows which leaf of its state is whose."""
        raise TreeError(
            self.name,
            "the state of a foreign transform cannot be extended",
            fix="Start it anew with tx.init, or use jopt's own transform in its place.",
        )

    def _named(self, state: Any) -> Node:
        named = nest(layout_of(self.name, state).paths, jax.tree.leaves(state))
        return named if isinstance(named, dict) else {"state": named}

    def _layout(self, params: Any) -> Layout:
        """The layout of the foreign state for these parameters, at no computation."""
        # Not the state itself: with shapes for its leaves, a container that checks them breaks.
        return jax.eval_shape(self._laid_out, params).layout  # type: ignore[no-any-return]

    @functools.cached_property
    def _laid_out(self) -> Callable[[Any], _Told]:
        return lambda params: _Told(layout_of(self.name, self.tx.init(params)))

    def _restored(self, layout: Layout, node: Node) -> Any:
        named = node["state"] if layout.paths == ((),) else node
        try:
            leaves = [lookup(named, path) for path in layout.paths]
        except KeyError as error:
            raise TreeError(
                self.name,
                "this state belongs to another foreign transform",
                expected=", ".join(layout.names),
                found=f"nothing at {error}",
            ) from None
        return jax.tree.unflatten(layout.treedef, leaves)


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Told:
    """A layout as a function under a trace may return it."""

    layout: Layout


def _moving(layout: Layout, leaves: Leaves) -> Any:
    """The tree without its frozen leaves: other libraries, too, take `None` for no leaf."""
    moving = [None if i in layout.still else x for i, x in enumerate(leaves)]
    return layout.treedef.unflatten(moving)


def _extra(flow: Flow) -> Mapping[str, Any]:
    """The extra arguments, of trees without frozen leaves."""
    still = flow.layout.still
    if not still:
        return flow.extra
    moving = [i for i in range(len(flow.layout)) if i not in still]

    def tree(leaves: Leaves) -> Any:
        found = dict(zip(moving, leaves, strict=True))
        return flow.tree([found.get(i) for i in range(len(flow.layout))])

    def leaves(tree: Any) -> Leaves:
        found = flow.layout.treedef.flatten_up_to(tree)
        return [found[i] for i in moving]

    return flow.seen_from(moving, tree, leaves)


def _took(before: Any, after: Any) -> Any:
    """Whether a foreign transform took a step, as far as its state tells; `None` if it always does.

    optax's states are known by the names of their types, as optax need not be there.
    """
    match type(after).__name__:
        case "MultiStepsState":
            return after.gradient_step != before.gradient_step
        case "ApplyIfFiniteState":
            return after.last_finite
        case "tuple":  # of a chain
            found = [_took(*pair) for pair in zip(before, after, strict=True)]
            told = [took for took in found if took is not None]
            return functools.reduce(operator.and_, told) if told else None
    return None


def _takes_extra(tx: Any) -> bool:
    # optax marks what takes extra arguments by a class of its own; the rest reject them.
    return any("ExtraArgs" in kind.__name__ for kind in type(tx).__mro__)
