"""Links without a memory: nothing, zero, and a function of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, called, configured, takes
from jopt.core import Common, Spec, Transform, optimizer
from jopt.core.transform import Flow, Leaves, Node, Part, like_given, moved
from jopt.core.tree import Layout, match_leaves

NOTHING = Spec("identity", steps=False, elementwise=True)
ZERO = Spec("set_to_zero", steps=False, elementwise=True)


def nothing(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `identity`."""
    return g, {}


def zero(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `set_to_zero`."""
    return jnp.zeros_like(g), {}


@optimizer(NOTHING, nothing)
def identity(**common: Unpack[Common]) -> None:
    """g ← g.

    **Arguments:** `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.identity(), {"w": jnp.float32(1.0)}
    >>> tx.update(grads, tx.init(grads))
    ({'w': Array(1., dtype=float32)}, {'identity': {}})
    """


@optimizer(ZERO, zero)
def set_to_zero(**common: Unpack[Common]) -> None:
    """g ← 0.

    In a route it keeps parameters where they are, as `jopt.group(pattern, freeze=True)` does for
    some of an optimizer's, with no state either.

    **Arguments:** `**common`: see `jopt.Common`.

    >>> import jax.numpy as jnp, jopt
    >>> tx, grads = jopt.set_to_zero(), {"w": jnp.float32(jnp.nan)}
    >>> tx.update(grads, tx.init(grads))[0]
    {'w': Array(0., dtype=float32)}
    """


class StatelessPart(Part):
    """A function of the updates, and perhaps the parameters, as trees or leaf by leaf."""

    name = "stateless"
    remembers = False

    def __init__(self, function: Callable[..., Any], by_leaf: bool) -> None:
        if not callable(function):
            raise ConfigError(
                self.name,
                "this is no function",
                expected="function(updates) or function(updates, params)",
                found=repr(function)[:100],
            )
        self.function = function
        self.by_leaf = by_leaf
        self.number = 2 if takes(function, 2) else 1

    def init(self, layout: Layout, params: Leaves) -> Node:
        """Nothing."""
        return {}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """What the function gives, in the dtypes of what it was given."""
        given = flow.updates
        params: Leaves = [None] * len(given) if flow.params is None else flow.params
        if self.by_leaf:
            pairs = zip(given, params, strict=True)
            out = [None if g is None else self._called(g, p) for g, p in pairs]
        else:
            held = None if flow.params is None else flow.tree(params)
            made = self._called(flow.tree(given), held)
            out = match_leaves(self.name, "what the function gives", flow.layout, made)
        leaves = [
            None if g is None else self._fitting(name, u, g)
            for name, u, g in zip(flow.layout.names, out, given, strict=True)
        ]
        return moved(flow, like_given(leaves, given)), {}

    def _called(self, *args: Any) -> Any:
        return called(self.name, "the function", self.function, *args[: self.number])

    def _fitting(self, name: str, u: Any, g: Any) -> Any:
        u = u if isinstance(u, jax.Array) else jnp.asarray(u)
        if tuple(u.shape) != tuple(g.shape):
            raise ConfigError(
                self.name,
                "the function changes the shape of a leaf",
                path=name,
                expected=tuple(g.shape),
                found=tuple(u.shape),
            )
        return u

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """Nothing."""
        return {}


@configured("jopt.")
def stateless(f: Callable[..., Any], *, by_leaf: bool = False) -> Transform:
    """g ← f(g, p), by a function of yours that remembers nothing.

    A rule of its own numbers and slots is `jopt.leafwise`, which also has groups.

    **Arguments:**

    - `f`: `f(updates)` or `f(updates, params)` of whole trees, which gives a tree like
      `updates`; `params` is `None` if `update` is not given them. Leaves that are frozen, or have
      no gradient, are `None` in `updates`.
    - `by_leaf`: whether it is a function of one leaf and its parameter instead.

    **Raises:** `ConfigError` for what is no function, or changes a shape; `TreeError` for a tree of
    another structure.

    >>> import jax, jax.numpy as jnp, jopt
    >>> tx, grads = jopt.stateless(jnp.sign, by_leaf=True), {"w": jnp.float32(-3.0)}
    >>> tx.update(grads, tx.init(grads))[0]
    {'w': Array(-1., dtype=float32)}
    """
    return Transform({StatelessPart.name: StatelessPart(f, by_leaf)})
