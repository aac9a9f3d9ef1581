"""The doors: they lift a rule to trees. Nothing else in jopt walks over leaves.

`leafwise` calls the rule for one leaf at a time; `treewise` once for all leaves of a group.

The rule is `rule(g, s, p, h)`:

- `g`: the gradient, `p`: the parameter (`None` if not given), in at least float32;
- `s`: the slots, as attributes, in the same dtype;
- `h`: the hyperparameters as scalars, the static options as they are, `h.t` the number of
  this step from 1 (if the spec counts), and the extra arguments the spec asks for. A
  hyperparameter that is switched off is `None`. In leafwise rules `h.dtype` is the dtype
  that the parameter is stored in, and `h.ndim` its number of axes, that of pairs not counted.

It returns a direction (or what else `Spec.gives` says) and a dict of all new slots; `Ending` makes
the update of it. In a treewise rule `g`, `p` and each slot
of the leaves are lists, one entry a leaf, as are `h.names`, their paths, and `h.grad`; slots of
the group are single arrays, and `h.value_fn` takes such a list. So do and are all extra arguments
of their kinds, see `extras.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import configured
from jopt.core import together
from jopt.core.extras import FUNCTIONS, TREES
from jopt.core.extras_seen import function_seen, leaves_seen
from jopt.core.groups import Steps
from jopt.core.kernels import fits, fused, on_cuda
from jopt.core.leaf import Leaf, Outcome, read_once
from jopt.core.offloaded import AHEAD
from jopt.core.one_leaf import Rule, applied, apply_rule, apply_stack, cast_numbers, unview, view
from jopt.core.part import SpecPart
from jopt.core.rules import ruled
from jopt.core.side_by_side import Numbers, behind_steps
from jopt.core.spec import Spec
from jopt.core.stack import Stack
from jopt.core.transform import ENTRYWISE, Flow, Transform
from jopt.numerics import compute_dtype, real_dtype, widest

Prepare = Callable[[Any], dict[str, Any]]
"""`prepare(h)`: what depends on numbers and step alone, once for all leaves of a group."""


@configured("jopt.", shared=Steps, named_by="spec")
def leafwise(
    spec: Spec,
    rule: Rule,
    *,
    prepare: Prepare | None = None,
    options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Transform:
    """Lift a rule for one leaf to a transform of whole trees.

    **Arguments:**

    - `spec`: what the rule declares.
    - `rule`: `rule(g, s, p, h) -> (direction, slots)`, see the module.
    - `prepare`: `prepare(h) -> {name: scalar}`, what depends on the numbers and the step alone
      (bias corrections); computed once for all leaves and added to `h`.
    - `options`: the static choices, by name.
    - `**arguments`: numbers or schedules, by name, of which `None` switches one off; and what
      every optimizer takes, see `jopt.Common`.

    **Raises:** `ConfigError` for a hyperparameter out of range or one the spec lacks.
    """
    part = LeafPart(spec, rule, prepare, options, arguments)
    return Transform({part.name: part})


@configured("jopt.", shared=Steps, named_by="spec")
def treewise(
    spec: Spec,
    rule: Rule,
    *,
    prepare: Prepare | None = None,
    options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Transform:
    """Lift a rule that needs every leaf at once; with groups, every leaf of its group.

    The arguments are those of `leafwise`.
    """
    part = TreePart(spec, rule, prepare, options, arguments)
    return Transform({part.name: part})


class LeafPart(SpecPart):
    """A rule applied to each leaf alone."""

    @property
    def cheap(self) -> bool:  # type: ignore[override]
        """Where it calls no function of the user's."""
        return not FUNCTIONS & set(self.extra)

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule; see `SpecPart.run`."""
        joint: dict[int, Outcome] = {}
        if self.spec.elementwise and not self.fuses:
            joint = together.ran(leaves, self.store, self._apply, self._stepped)
        leaves = read_once(leaves)
        if not (joint or self.fuses or self.looks or self.store.measures):
            joint = applied(self.rule, self.ending, self.frozen_options, leaves)
        done: list[Outcome] = []
        for i, leaf in enumerate(leaves):
            if i in joint:
                done.append(joint[i])
                continue
            behind = done[i - AHEAD].stored if i >= AHEAD else None
            leaf = self.store.fetched(leaf, behind)
            if done and (self.looks or self.store.measures):
                before, out = leaves[i - 1].p if self.spec.steps else None, done[-1]
                moved = (None, out.moved) if out.update is None else (before, out.update)
                leaf = leaf.but(g=behind_steps(leaf.g, moved))
            done.append(self.store.returned(leaf, self._one(leaf)))
        return done, {}

    def _one(self, leaf: Leaf) -> Outcome:
        if self.fuses and fits(self.store.codec, self.slots, leaf):
            return self._fused(leaf)
        return self._applied(leaf)

    def _applied(self, leaf: Leaf) -> Outcome:
        g, p, numbers = leaf.g, leaf.p, leaf.numbers
        update, slots = self._tensors(leaf.stack, g, leaf.slots, p, numbers)
        measured = self.store.measured(slots, g, p)
        if measured:
            like = g if p is None else p

            def anew(g: Array, slots: Any, stored: Any, measured: Any) -> Any:
                # The scale of a block takes all its entries. To apply the rule again, once the
                # scales are known, reads less than to write down what it gave: codes are small.
                # The barrier keeps XLA from making the two one.
                g, stored, measured = jax.lax.optimization_barrier((g, stored, measured))
                return g, self.store.decoded_all(stored, leaf.name, like, leaf.stack), measured

            # A CPU holds what it has decoded: see `codecs`.
            g, again, measured = jax.lax.platform_dependent(
                g,
                leaf.slots,
                leaf.stored,
                measured,
                cpu=lambda g, slots, _, measured: (g, slots, measured),
                default=anew,
            )
            update, slots = self._tensors(leaf.stack, g, again, p, numbers)
        return Outcome(update, slots=slots, measured=measured)

    def _stepped(
        self, leaf: Leaf, g: Array, p: Array, stored: Any, numbers: Numbers, step: Array
    ) -> tuple[Array, dict[str, Any]]:
        """The update of a leaf of which these are the arrays, and what its slots are stored as."""
        slots = self.store.decoded_all(stored, leaf.name, p)
        at = leaf.but(g=g, p=p, stored=stored, slots=slots, numbers=numbers, step=step)
        out = self._applied(at)
        held = [s for s in self.slots if s.name in stored]
        return out.update, {s.name: self.store.of(s, at, out) for s in held}

    def _fused(self, leaf: Leaf) -> Outcome:
        add = leaf.add if leaf.add in ENTRYWISE else None
        held = tuple(s for s in self.slots if s.name in leaf.stored)

        def elsewhere(g: Array, p: Array, stored: Any, numbers: Any, step: Array) -> Any:
            u, after = self._stepped(leaf, g, p, stored, Numbers.of(numbers), step)
            u = u.astype(compute_dtype(p.dtype))
            return (u if add is None else add(leaf.name, p, u)), after

        kernel = functools.partial(
            fused, rule=self._apply_scalars, slots=held, codec=self.store.codec, add=add
        )
        turn = on_cuda(kernel, elsewhere)
        out, stored = turn(leaf.g, leaf.p, leaf.stored, leaf.numbers.read(), leaf.step)
        return Outcome(out, stored=stored) if add is None else Outcome(moved=out, stored=stored)

    def _tensors(
        self, stack: Stack | None, g: Array, slots: Any, p: Array | None, numbers: Numbers
    ) -> tuple[Array, dict[str, Array]]:
        if stack is None:
            return self._apply(g, slots, p, numbers)
        options, held = self.frozen_options, self.held
        stacked: tuple[Array, dict[str, Array]] = apply_stack(
            self.rule, self.ending, options, held, stack, g, slots, p, numbers
        )
        return stacked

    @functools.cached_property
    def _apply(self) -> Callable[..., tuple[Array, dict[str, Array]]]:
        # jit caches by shape: a tree of a thousand equal layers traces the rule once.
        return functools.partial(apply_rule, self.rule, self.ending, self.frozen_options)

    @functools.cached_property
    def _apply_scalars(self) -> Callable[..., tuple[Array, dict[str, Array]]]:
        return lambda g, slots, p, scalars: self._apply(g, slots, p, Numbers.of(scalars))


class TreePart(SpecPart):
    """A rule applied to all leaves of a group together.

    It sees leaves as they are, whatever their `axes`: these say what a tensor is to the stages.
    """

    @property
    def looks(self) -> bool:
        """See `SpecPart.looks`."""
        return not all(stage.spec.elementwise for stage in self.ending.stages)

    @property
    def whole(self) -> frozenset[str]:
        """See `SpecPart.whole`: those of the rule."""
        return frozenset(self.ending.of_rule({slot.name: slot for slot in self.slots}))

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule; see `SpecPart.run`."""
        # A state that a serializer gave back holds NumPy's arrays, and no rule need know.
        seen = jax.tree.map(jnp.asarray, [(x.g, dict(x.slots), x.p) for x in leaves])
        views = [view(*x) for x in seen]
        shared = {name: jnp.asarray(x) for name, x in shared.items()}
        s = {slot.name: [v[1].get(slot.name) for v in views] for slot in self.slots}
        dtype = widest(*(real_dtype(v[0].dtype) for v in views))
        numbers = cast_numbers(leaves[0].numbers.read(), dtype)
        members = [x.index for x in leaves]
        for name in FUNCTIONS:
            if numbers.get(name) is not None:
                numbers[name] = function_seen(numbers[name], members, flow)
        for name in TREES:
            if numbers.get(name) is not None:
                given = leaves_seen(self.name, name, numbers[name], members, flow)
                numbers[name] = [_filled(x, g) for x, g in zip(leaves, given, strict=True)]
        numbers["names"] = [x.name for x in leaves]
        numbers |= dict(self.frozen_options)
        # Around the rule each leaf has its own dtype, and numbers in that.
        dtypes = [real_dtype(v[0].dtype) for v in views]
        own_h = {d: SimpleNamespace(**cast_numbers(numbers, d)) for d in dict.fromkeys(dtypes)}
        hs = [own_h[d] for d in dtypes]
        own = self.ending.of_rule({slot.name: slot for slot in (*self.slots, *self.shared)})
        ds, new = ruled(
            self.rule,
            own,
            [self._started(x, g, p, h) for x, (g, _, p), h in zip(leaves, views, hs, strict=True)],
            SimpleNamespace(**self.ending.of_rule(s), **shared),
            None if leaves[0].p is None else [v[2] for v in views],
            SimpleNamespace(**self.ending.numbers(numbers)),
        )
        new |= self.ending.kept(s)
        outcomes: list[Outcome] = []
        for i, (x, d, (g, _, p)) in enumerate(zip(leaves, ds, views, strict=True)):
            after = {name: new[name][i] for name in x.slots}
            u, slots = unview(x.g, self._finished(x, d, g, after, p, hs[i]), after, x.slots)
            outcomes.append(Outcome(u, slots=slots))
        return outcomes, {slot.name: jnp.asarray(new[slot.name]) for slot in self.shared}

    def _started(self, leaf: Leaf, g: Array, p: Any, h: Any) -> Any:
        stack = leaf.stack
        if stack is None:
            return self.ending.start(g, p, h)
        start = stack.mapped(lambda g, p: self.ending.start(g, p, h))
        seen = None if p is None else stack.apart(p)
        return stack.together(start(stack.apart(g), seen), like=g)

    def _finished(self, leaf: Leaf, d: Any, g: Array, s: dict[str, Array], p: Any, h: Any) -> Any:
        stack = leaf.stack
        if stack is None:
            return self.ending.finish(d, g, s, p, h)
        finish = stack.mapped(lambda d, g, s, p: self.ending.finish(d, g, s, p, h))
        # Of the rule's slots stages read those that are like the leaf.
        like = {k: x for k, x in s.items() if k not in self.whole or x.shape == g.shape}
        seen = {
            k: stack.apart(x) if k in self.whole else self.held.parted(stack, {k: x})[k]
            for k, x in like.items()
        }
        of = [None if x is None else stack.apart(x) for x in (d, g)]
        step = finish(*of, seen, None if p is None else stack.apart(p))
        return stack.together(step, like=g)


def _filled(leaf: Leaf, given: Any) -> Array:
    like = leaf.g if leaf.p is None else leaf.p
    return view(jnp.zeros_like(like) if given is None else given, {}, leaf.p)[0]
