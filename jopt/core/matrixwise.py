"""The third door: rules that hand a matrix to linear algebra which is done for many at once.

A matrixwise rule is written for one matrix, as a generator:

    def rule(g, s, p, h):
        ...
        x = yield u      # u joins all matrices of its shape; x is its own result
        ...
        return direction, slots

and `batch(stack, h)` maps a stack of shape `(k, m, n)` to one of the same shape and dtype. Tall
and wide matrices are stacked apart: turning one over costs a pass over it, and products do not
mind. What surrounds the `yield` stays with the leaf, so only what the linear algebra reads is
copied.

On a mesh `batch` sees the matrices that its device owns, and they are whole; see
`jopt.core.ownership`. Results go back to where the leaf lies. Where `batch` treats a matrix and its
transpose alike, these are of one class there: to turn matrices over on their way costs nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, Self

from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from jopt.base import ConfigError, called, configured
from jopt.core.batches import Algebra, Batch, batched
from jopt.core.doors import Prepare
from jopt.core.ending import Ending
from jopt.core.groups import Steps
from jopt.core.leaf import Leaf, Outcome
from jopt.core.one_leaf import cast_numbers, view
from jopt.core.ownership import Lie, lie_of, parts_on
from jopt.core.part import SpecPart
from jopt.core.rules import check_rule, of_rule
from jopt.core.runs import Run, Waiting, begun
from jopt.core.spec import Spec
from jopt.core.transform import Flow, Transform
from jopt.numerics import real_dtype

Told = Mapping[str, NamedSharding]
"""How the leaves of these names lie on a mesh, where their types do not say it."""


@configured("jopt.", shared=Steps, named_by="spec")
def matrixwise(
    spec: Spec,
    rule: Callable[[Any, Any, Any, Any], Run],
    batch: Batch,
    *,
    alike: bool = False,
    prepare: Prepare | None = None,
    options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Transform:
    """Lift a rule for one matrix, and linear algebra for a stack of them, to a transform.

    The arguments are those of `leafwise`, and

    - `batch`: `batch(stack, h)`, or with slots that are `owned`, `batch(stack, s, h)`, which gives
      the new stack and a dict of these slots; see the module.
    - `alike`: whether `batch` does to a transposed matrix the same, transposed.

    The spec declares `ndim=2`.
    """
    check_rule(spec, rule, prepare, options, batch=batch)
    part = MatrixPart(spec, rule, prepare, options, arguments)
    part.batch, part.alike = batch, alike
    return Transform({spec.name: part})


class MatrixPart(SpecPart):
    """A rule for matrices, its linear algebra batched by shape."""

    batch: Batch
    alike: bool = False
    told: Told = MappingProxyType({})

    def remade(self, spec: Spec, ending: Ending, numbers: Mapping[str, Any] | None = None) -> Self:
        """See `SpecPart.remade`."""
        made = super().remade(spec, ending, numbers)
        made.batch, made.alike, made.told = self.batch, self.alike, self.told
        return made

    def laid_out(self, told: Told) -> Self:
        """The same, told how the leaves of these names lie on a mesh."""
        made = copy.copy(self)
        made.told = told
        return made

    @property
    def owned(self) -> Mapping[str, bool]:
        """The slots that `batch` alone sees, with whether they are like the matrix."""
        return {slot.name: slot.shape == "like" for slot in self.slots if slot.owned}

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule; see `SpecPart.run`."""
        numbers = leaves[0].numbers.read()
        owned, options = self.owned, dict(self.frozen_options)
        algebra = Algebra(self.name, self.batch, self.alike, owned, numbers, options)
        begun_all = [begun(self._started, leaf, owned, self.held) for leaf in leaves]
        waiting = [w for w in begun_all if not w.done]
        while waiting:
            lies = [self._lie(w) for w in waiting]
            of = [w.x for w in waiting], [w.kept for w in waiting], lies
            results, kept = batched(algebra, *of)
            waiting = [
                w for w, x, own in zip(waiting, results, kept, strict=True) if w.goes_on(x, own)
            ]
        return [w.outcome for w in begun_all], {}

    def _lie(self, waiting: Waiting) -> Lie | None:
        """How the matrices of a leaf lie; `None` if there is no mesh."""
        if waiting.x.size == 0:
            return None
        told, stack = self.told.get(waiting.leaf.name), waiting.leaf.stack
        if told is not None and stack is not None:
            entries = (*told.spec, *(None,) * (len(stack.shape) - len(told.spec)))
            told = told.update(spec=PartitionSpec(*stack.entries(entries, parts_on(told.mesh))))
        return lie_of(waiting.x, told)

    def _started(self, leaf: Leaf, g: Any, slots: Mapping[str, Any], p: Any) -> Run:
        """The rule on a matrix of a leaf, and its ending."""
        g, s, p = view(g, slots, p)
        h = SimpleNamespace(
            **cast_numbers(leaf.numbers.read(), real_dtype(g.dtype)), **dict(self.frozen_options)
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
        return self._ended(run, g, s, p, h)

    def _ended(self, run: Run, g: Any, s: Any, p: Any, h: Any) -> Run:
        own = {slot.name: slot for slot in self.slots if not slot.owned}
        d, new = of_rule(self.rule, self.ending.of_rule(own), (yield from run))
        new = {**new, **self.ending.kept(s)}
        return self.ending.finish(d, g, new, p, h), new
