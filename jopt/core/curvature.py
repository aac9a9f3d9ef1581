"""Optimizers of single leaves that divide by an estimate of the Hessian's diagonal.

The estimate is one for all leaves, whatever their group, and made every few steps: before the rule
it goes into the slot `nu`, by a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_one_of
from jopt.core.checks import check_node
from jopt.core.doors import LeafPart
from jopt.core.ending import Ending
from jopt.core.extras_seen import function_seen, leaves_seen
from jopt.core.leaf import Outcome
from jopt.core.one_leaf import view
from jopt.core.spec import Spec
from jopt.core.transform import Add, Flow, Leaves, Node, Transform
from jopt.core.without_params import check_spared
from jopt.numerics import (
    as_complex,
    drawn,
    hutchinson,
    is_complex,
    once_if,
    signs,
    squared_slopes,
)
from jopt.numerics.noise import IMPL

NEEDS = {"hutchinson": "value_fn", "gauss_newton_bartlett": "sampled_fn", "given": "hessian"}
"""The estimators, with the extra argument that each is made from."""
DIAGONAL = "nu"


class CurvaturePart(LeafPart):
    """The rule for each leaf; the diagonal is estimated before, for all leaves at once.

    `renew` is the rule that takes an estimate for the gradient and gives `nu` with it; `averages`,
    the choice by which it looks at more than one entry.
    """

    renew: Any
    averages: str | None = None

    def __init__(self, spec: Spec, rule: Any, *more: Any) -> None:
        super().__init__(spec, rule, *more)
        self.seen: tuple[()] = ()  # no leaf's rule reads what only all of them together make use of
        held = tuple(slot for slot in spec.slots if slot.name == DIAGONAL)
        alone = replace(spec, slots=held, counts=False, steps=False, gives="update")
        _, options, arguments = self.made_of
        own = {k: v for k, v in arguments.items() if k not in ("maximize", "decoupled", "skips")}
        stored = arguments.get("state_dtype")
        if isinstance(stored, Mapping):
            own["state_dtype"] = {k: v for k, v in stored.items() if k == DIAGONAL}
        one = self.averages is None or not options[self.averages]
        alone = replace(alone, decay=None, needs_params=True, extra=(), elementwise=one)
        self.renewal: LeafPart = LeafPart(alone, self.renew, None, options, own, Ending())

    def _turn(self, flow: Flow, node: Node, add: Add | None) -> tuple[dict[int, Outcome], Node]:
        if flow.params is None:
            check_spared(self.spec, self.numbers, self.groups)
        check_node(self.name, node, self._entries())
        new = self._renewed(flow, node)
        outcomes, after = super()._turn(flow, {**node, **new}, add)
        return outcomes, {**after, **new}

    def _renewed(self, flow: Flow, node: Node) -> Node:
        """The diagonal, and the key of the next estimate; untouched where none is due."""
        every = self.options["update_interval"]
        held = {k: v for k, v in node.items() if k not in ("mu", "nu", "key", "leaf_count")}

        def renewed(old: Node) -> Node:
            keys = old.get("key", {})
            following = {group: drawn(key)[1] for group, key in keys.items()}
            own = drawn(next(iter(keys.values())))[0] if keys else None
            seen = replace(flow, updates=self._estimate(flow, own), stepped=False)
            _, after = self.renewal._turn(seen, {**held, "nu": old["nu"]}, None)
            return {**({"key": following} if keys else {}), "nu": after["nu"]}

        old = {k: jax.tree.map(jnp.asarray, node[k]) for k in ("key", "nu") if k in node}
        new: Node = once_if(jnp.mod(jnp.asarray(node["count"]), every) == 0, renewed, old)
        return new

    def _estimate(self, flow: Flow, own: Array | None) -> Leaves:
        """An estimate for each leaf that has a gradient."""
        members = [i for i, g in enumerate(flow.updates) if g is not None]
        params = flow.params or []
        estimator, extra = self.options["estimator"], flow.extra
        found: Leaves = [None] * len(params)
        if not members:
            return found
        sign = -1 if self.ending.maximize else 1
        if estimator == "given":
            given = leaves_seen(self.name, "hessian", extra["hessian"], members, flow)
            estimates = [x if x is None or sign == 1 else -x for x in given]
        else:
            key = typed(own if extra.get("key") is None else extra["key"])
            function = function_seen(extra[NEEDS[estimator]], members, flow)
            at = [_seen(params[i]) for i in members]
            if estimator == "hutchinson":
                names = [flow.layout.names[i] for i in members]
                estimates = [sign * x for x in hutchinson(function, at, signs(key, names, at))]
            else:
                estimates = squared_slopes(function, at, key)
            pairs = [is_complex(params[i].dtype) for i in members]
            estimates = [as_complex(x) if c else x for c, x in zip(pairs, estimates, strict=True)]
        for i, x in zip(members, estimates, strict=True):
            found[i] = x
        return found


def _seen(p: Any) -> Array:
    seen: Array = view(jnp.asarray(p), {}, jnp.asarray(p))[0]
    return seen


def typed(key: Any) -> Array:
    """A key of jax's from one, or from its two uint32."""
    known = jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key)
    made: Array = key if known else jax.random.wrap_key_data(key, impl=IMPL)
    return made


def curved(part: type[CurvaturePart]) -> Callable[..., Transform]:
    """The door for such a part's rule."""

    def door(
        spec: Spec, rule: Any, *, prepare: Any, options: Mapping[str, Any], **arguments: Any
    ) -> Transform:
        return Transform({spec.name: part(spec, rule, prepare, options, arguments)})

    return door


def check_estimator(who: str, estimator: Any, known: Sequence[str]) -> None:
    """Raise `ConfigError` for one that `who` does not have."""
    if not is_one_of(estimator, *known):
        raise ConfigError(
            who,
            "there is no such estimator",
            expected=", ".join(map(repr, known)),
            found=repr(estimator)[:100],
        )


def check_batch_size(who: str, estimator: str, batch_size: Any) -> None:
    """Raise `ConfigError` for one without its estimator, or the other way round."""
    if (batch_size is not None) != (estimator == "gauss_newton_bartlett"):
        raise ConfigError(
            who,
            "batch_size belongs to the estimator of Gauss, Newton and Bartlett, and to no other",
            expected="estimator='gauss_newton_bartlett' and a batch_size, or neither",
            found=f"estimator={estimator!r}, batch_size={batch_size!r}",
        )
