"""Setting transforms end to end, and letting foreign ones in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jopt.base import ConfigError, TreeError, configured
from jopt.core.transform import Flow, Leaves, Node, Part, Transform, like_given, moved
from jopt.core.tree import Layout, layout_of, lookup, match_leaves, nest


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
    return Transform(parts)


def as_parts(tx: Any) -> Mapping[str, Part]:
    """The parts of a transform; a foreign object with `init` and `update` is one part."""
    if isinstance(tx, Transform):
        return tx.parts
    if callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None)):
        return {"foreign": ForeignPart(tx)}
    raise ConfigError(
        "chain",
        "this is no transform",
        expected="something with init(params) and update(updates, state, params)",
        found=repr(tx),
        fix="Call the factory: jopt.adamw(1e-3), not jopt.adamw." if callable(tx) else None,
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

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The foreign state as a nested dict."""
        state = self.tx.init(layout.treedef.unflatten(params))
        return self._named(state)

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """One foreign step. Gradients are handed over in the parameters' dtypes."""
        given = (
            flow.updates
            if flow.params is None or flow.stepped
            else like_given(flow.updates, flow.params)
        )
        params = None if flow.params is None else flow.tree(flow.params)
        like = flow.tree(given if flow.params is None else flow.params)
        state = self._restored(self._layout(like), node)
        extra = flow.extra if _takes_extra(self.tx) else {}
        updates, state = self.tx.update(flow.tree(given), state, params, **extra)
        leaves = match_leaves(self.name, "the foreign updates", flow.layout, updates)
        return moved(flow, leaves, steps=flow.stepped), self._named(state)

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


def _takes_extra(tx: Any) -> bool:
    # optax marks what takes extra arguments by a class of its own; the rest reject them.
    return any("ExtraArgs" in kind.__name__ for kind in type(tx).__mro__)
