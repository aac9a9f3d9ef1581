"""Optimizers of single leaves that divide by an estimate of the Hessian's diagonal.

The estimate is one for all leaves, whatever their group, and made every few steps: before the rule
it goes into the slot `nu`, by a rule of its own. Where `nu` is rounded to be stored, the two are
one rule in a step that has an estimate: parameters move by what was computed, not by what is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
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
from jopt.core.nested import nest
from jopt.core.one_leaf import Rule, view
from jopt.core.plan import Plan
from jopt.core.spec import Slot, Spec
from jopt.core.stack import fitted
from jopt.core.transform import Add, Flow, Leaves, Node, Transform, moved
from jopt.core.without_params import check_spared
from jopt.numerics import (
    as_complex,
    cast,
    compute_dtype,
    drawn,
    hutchinson,
    is_complex,
    once_if,
    signs,
    squared_slopes,
)
from jopt.numerics.explicit import zeros_of
from jopt.numerics.noise import IMPL

NEEDS = {"hutchinson": "value_fn", "gauss_newton_bartlett": "sampled_fn", "given": "hessian"}
"""The estimators, with the extra argument that each is made from."""
DIAGONAL = "nu"
ESTIMATE = Slot("estimate", compress=False)
KNOWN = Slot("estimate_known", "scalar", 1.0, compress=False)
"""What the rule that is both reads as slots: an estimate, and whether there is one of the leaf."""


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

    @functools.cached_property  # which few need
    def both(self) -> LeafPart:
        """Both rules as one, of which each leaf's estimate is a slot."""
        _, options, arguments = self.made_of
        slots, rule = (*self.spec.slots, ESTIMATE, KNOWN), renewing(self.rule, self.renew)
        one = self.renewal.spec.elementwise
        spec = replace(self.spec, slots=slots, extra=(), elementwise=one)
        rest = {k: v for k, v in arguments.items() if k != "kernel"}
        return LeafPart(spec, rule, self.prepare, options, rest, self.ending)

    @functools.cached_property
    def alone(self) -> LeafPart:
        """The rule for each leaf, of the diagonal that there is."""
        _, options, arguments = self.made_of
        spec = replace(self.spec, extra=())
        return LeafPart(spec, self.rule, self.prepare, options, arguments, self.ending)

    @property
    def rounds(self) -> bool:
        """Whether the diagonal is rounded to be stored."""
        return any(self.store.codec.of(s).rounds for s in self.slots if s.name == DIAGONAL)

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """See `SpecPart.update`."""
        if not self.rounds:
            return super().update(flow, node)

        def turn(part: LeafPart, _: Leaves, node: Node) -> tuple[Leaves, Node]:
            after, new = part.update(flow, node)
            return after.updates, new

        shapes = jax.eval_shape(lambda: turn(self.alone, [], node)[0])
        updates, new = self._by_turns(turn, jax.tree.map(zeros_of, shapes), lambda _: flow, node)
        return moved(flow, updates, steps=self.spec.steps), new

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """See `SpecPart.step`."""
        if not self.rounds:
            return super().step(flow, node, add)

        def seen(params: Leaves) -> Flow:
            return replace(flow, params=params)

        def turn(part: LeafPart, params: Leaves, node: Node) -> tuple[Leaves, Node]:
            return part.step(seen(params), node, add)

        assert flow.params is not None
        return self._by_turns(turn, flow.params, seen, node)

    def _by_turns(
        self,
        turn: Callable[[LeafPart, Leaves, Node], tuple[Leaves, Node]],
        leaves: Leaves,
        seen: Callable[[Leaves], Flow],
        node: Node,
    ) -> tuple[Leaves, Node]:
        """A turn of both rules as one where there is an estimate, else of the rule alone.

        Of two loops, of which one has a turn: what they change stays where it is, see `once_if`.
        """
        due = self._due(node)

        def with_estimate(carry: tuple[Leaves, Node]) -> tuple[Leaves, Node]:
            leaves, node = carry
            flow = seen(leaves)
            keys, estimates = self._news(flow, node.get("key", {}))
            like = flow.updates if flow.params is None else flow.params
            plan = self.both.plan(flow.layout, like)
            news: Node = {}
            for slot in (ESTIMATE, KNOWN):
                each = [self._given(slot, like[i], plan, i, estimates[i]) for i in plan.live]
                news[slot.name] = nest(plan.paths_of(plan.live), each)
            after, new = turn(self.both, leaves, {**node, **news})
            return after, {k: x for k, x in new.items() if k not in news} | keys

        def alone(carry: tuple[Leaves, Node]) -> tuple[Leaves, Node]:
            return turn(self.alone, *carry)

        carry = leaves, jax.tree.map(jnp.asarray, node)
        for condition, f in ((due, with_estimate), (~due, alone)):
            carry = once_if(condition, f, carry)
        return carry

    def _given(self, slot: Slot, p: Any, plan: Plan, i: int, estimate: Array | None) -> Array:
        if slot is ESTIMATE:
            x = jnp.zeros_like(p) if estimate is None else estimate
            return cast(x, compute_dtype(p.dtype))
        one: Array = self.both.store.first(fitted(slot, plan.stacks.get(i)), p, {})
        return jnp.zeros_like(one) if estimate is None else one

    def _turn(self, flow: Flow, node: Node, add: Add | None) -> tuple[dict[int, Outcome], Node]:
        if flow.params is None:
            check_spared(self.spec, self.numbers, self.groups)
        check_node(self.name, node, self._entries())
        new = self._renewed(flow, node)
        outcomes, after = super()._turn(flow, {**node, **new}, add)
        return outcomes, {**after, **new}

    def _renewed(self, flow: Flow, node: Node) -> Node:
        """The diagonal, and the key of the next estimate; untouched where none is due."""
        held = {k: v for k, v in node.items() if k not in ("mu", "nu", "key", "leaf_count")}

        def renewed(old: Node) -> Node:
            keys, estimates = self._news(flow, old.get("key", {}))
            seen = replace(flow, updates=estimates, stepped=False)
            _, after = self.renewal._turn(seen, {**held, "nu": old["nu"]}, None)
            return {**keys, "nu": after["nu"]}

        old = {k: jax.tree.map(jnp.asarray, node[k]) for k in ("key", "nu") if k in node}
        new: Node = once_if(self._due(node), renewed, old)
        return new

    def _due(self, node: Node) -> Array:
        return jnp.mod(jnp.asarray(node["count"]), self.options["update_interval"]) == 0

    def _news(self, flow: Flow, keys: Node) -> tuple[Node, Leaves]:
        """The keys of the next estimate, if it keeps any, and this one."""
        following = {group: drawn(key)[1] for group, key in keys.items()}
        own = drawn(next(iter(keys.values())))[0] if keys else None
        return ({"key": following} if keys else {}), self._estimate(flow, own)

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


@functools.cache  # a compiled rule is remembered by what it is
def renewing(rule: Rule, renew: Rule) -> Rule:
    """Both rules as one, which has the estimate in a slot."""

    @functools.wraps(rule)
    def both(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
        _, new = renew(s.estimate, s, p, h)
        nu = jnp.where(s.estimate_known > 0, new[DIAGONAL], s.nu)
        d, after = rule(g, SimpleNamespace(**{**vars(s), DIAGONAL: nu}), p, h)
        return d, {**vars(s), **after}

    return both


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
