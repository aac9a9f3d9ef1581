"""The third door: rules that hand a matrix to linear algebra which is done for many at once.

A matrixwise rule is written for one matrix, as a generator:

    def rule(g, s, p, h):
        ...
        x = yield u      # u joins all matrices of its shape; x is its own result
        ...
        return direction, slots

and `batch(stack, h)` maps a stack of shape `(k, m, n)` to one of the same shape. Tall and wide
matrices are stacked apart: turning one over costs a pass over it, and products do not mind.
What surrounds the `yield` stays with the leaf, so only what the linear algebra reads is copied.

On a mesh of explicit axes `batch` sees whole matrices only: those of one layout are a stack, and
its devices share it out, see `way_to_whole`. Results go back to where the leaf lies.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, called, configured
from jopt.core.doors import Prepare
from jopt.core.ending import Ending
from jopt.core.groups import Steps
from jopt.core.leaf import Leaf, Outcome
from jopt.core.one_leaf import cast_numbers, view
from jopt.core.part import SpecPart
from jopt.core.rules import check_rule, of_rule
from jopt.core.spec import Spec
from jopt.core.transform import Flow, Transform
from jopt.numerics import real_dtype
from jopt.numerics.explicit import reshard, way_to_whole

Run = Generator[Array, Array, tuple[Array, dict[str, Array]]]
Batch = Callable[[Array, Any], Array]


@configured("jopt.", shared=Steps, named_by="spec")
def matrixwise(
    spec: Spec,
    rule: Callable[[Any, Any, Any, Any], Run],
    batch: Batch,
    *,
    prepare: Prepare | None = None,
    options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Transform:
    """Lift a rule for one matrix, and linear algebra for a stack of them, to a transform.

    The arguments are those of `leafwise`, and `batch(stack, h)`, see the module. The spec
    declares `ndim=2`.
    """
    check_rule(spec, rule, prepare, options, batch=batch)
    part = MatrixPart(spec, rule, prepare, options, arguments)
    part.batch = batch
    return Transform({spec.name: part})


class MatrixPart(SpecPart):
    """A rule for matrices, its linear algebra batched by shape."""

    batch: Batch

    def remade(self, spec: Spec, ending: Ending, numbers: Mapping[str, Any] | None = None) -> Self:
        """See `SpecPart.remade`."""
        made = super().remade(spec, ending, numbers)
        made.batch = self.batch
        return made

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule; see `SpecPart.run`."""
        matrices = [self._matrices(leaf) for leaf in leaves]
        done = iter(self._run([*itertools.chain(*matrices)]))
        found = [[*itertools.islice(done, len(mine))] for mine in matrices]
        return [self._joined(*of) for of in zip(leaves, found, strict=True)], {}

    def _matrices(self, leaf: Leaf) -> list[Leaf]:
        """Those that a leaf holds, each as a leaf of its own."""
        stack = leaf.stack
        if stack is None:
            return [leaf]
        of = (stack.apart(leaf.g), stack.apart(leaf.p), self.held.parted(stack, leaf.slots))
        return [replace(leaf, g=g, p=p, slots=s, stack=None) for g, p, s in stack.each(of)]

    def _joined(self, leaf: Leaf, outcomes: list[Outcome]) -> Outcome:
        """What comes out of a leaf, from what comes out of its matrices."""
        stack = leaf.stack
        if stack is None:
            return outcomes[0]
        if not outcomes:
            return Outcome(jnp.zeros_like(leaf.g), slots=leaf.slots)
        update, slots = stack.stacked([(out.update, dict(out.slots)) for out in outcomes])
        return Outcome(stack.together(update), slots=self.held.joined(stack, slots))

    def _run(self, leaves: Sequence[Leaf]) -> list[Outcome]:
        runs: list[tuple[int, Run, Array]] = []
        for i, leaf in enumerate(leaves):
            g, s, p = view(leaf.g, leaf.slots, leaf.p)
            h = SimpleNamespace(
                **cast_numbers(leaf.numbers.read(), real_dtype(g.dtype)),
                **dict(self.frozen_options),
            )
            run = called(
                self.name,
                "the rule",
                self.rule,
                self.ending.start(g, p, h),
                SimpleNamespace(**self.ending.of_rule(s)),
                p,
                SimpleNamespace(**self.ending.numbers(vars(h))),
            )
            if not isinstance(run, Generator):
                raise ConfigError(
                    self.name,
                    "the rule is no generator",
                    expected="x = yield what the batch takes",
                    found=repr(run)[:100],
                )
            run = self._ended(run, g, s, p, h)
            runs.append((i, run, next(run)))
        outcomes: dict[int, Outcome] = {}
        while runs:
            results = self._batched([x for _, _, x in runs], leaves[0])
            runs = self._resumed(runs, results, outcomes)
        return [outcomes[i] for i in range(len(leaves))]

    def _ended(self, run: Run, g: Any, s: Any, p: Any, h: Any) -> Run:
        own = self.ending.of_rule({slot.name: slot for slot in self.slots})
        d, new = of_rule(self.rule, own, (yield from run))
        new = {**new, **self.ending.kept(s)}
        return self.ending.finish(d, g, new, p, h), new

    def _batched(self, xs: list[Array], first: Leaf) -> list[Array]:
        stacks: dict[tuple[Any, ...], list[int]] = {}
        for i, x in enumerate(xs):
            stacks.setdefault((x.shape, x.dtype, jax.typeof(x).sharding), []).append(i)
        results: dict[int, Array] = {}
        for (_, dtype, _), members in stacks.items():
            h = SimpleNamespace(
                **cast_numbers(first.numbers.read(), real_dtype(dtype)), **dict(self.frozen_options)
            )
            # The barrier lets a leaf's kernel write what joins beside its slots; without it XLA
            # reads gradient and slots again to stack them.
            stack = jnp.stack(jax.lax.optimization_barrier([xs[i] for i in members]))
            way = way_to_whole(stack)
            before = stack.shape
            stack = called(self.name, "batch", self.batch, reshard(stack, way[1:]), h)
            if getattr(stack, "shape", ())[:1] != before[:1]:
                raise ConfigError(
                    self.name,
                    "batch gives no stack of as many matrices",
                    expected=f"an array of shape {before}",
                    found=repr(stack)[:100],
                )
            stack = reshard(stack, way[-2::-1])
            for row, i in enumerate(members):
                results[i] = stack[row]
        return [results[i] for i in range(len(xs))]

    def _resumed(
        self,
        runs: list[tuple[int, Run, Array]],
        results: list[Array],
        outcomes: dict[int, Outcome],
    ) -> list[tuple[int, Run, Array]]:
        """The runs that go on; what comes out of the others."""
        waiting: list[tuple[int, Run, Array]] = []
        for (i, run, _), x in zip(runs, results, strict=True):
            try:
                waiting.append((i, run, run.send(x)))
            except StopIteration as done:
                update, slots = done.value
                outcomes[i] = Outcome(update, slots=slots)
        return waiting
