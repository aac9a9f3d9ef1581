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

Slots that are `owned` go where the linear algebra is done, and to stack them would cost more than
it saves. So `batch(stack, s, h)` may be a generator, too, see `jopt.numerics.joint`: by
`y = yield work, x` it says what is done to all matrices of a shape at once. On one device it is run
for each leaf by itself, with tall matrices as they are, and what surrounds its `yield` reads and
writes the leaf's own slots.

A rule that has chosen some rows of a matrix yields these, see `jopt.core.some_rows`.

On a mesh `batch` sees the matrices that its device owns, and they are whole; see
`jopt.core.ownership`. Results go back to where the leaf lies. Where `batch` treats a matrix and its
transpose alike, these are of one class there: to turn matrices over on their way costs nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import jax
from jax.sharding import NamedSharding

from jopt.base import ConfigError, called, configured
from jopt.core.algebra import Algebra, Batch, WorkOf
from jopt.core.batches import Stacks
from jopt.core.chip_loads import Pair, load_by_load, loads_of
from jopt.core.dealing import parted_spec
from jopt.core.dealt import DealtPart
from jopt.core.doors import Prepare
from jopt.core.ending import Ending
from jopt.core.groups import Steps
from jopt.core.leaf import Leaf, Outcome
from jopt.core.matrix_runs import Run, Waiting, begun
from jopt.core.numbers_read import numbers_read
from jopt.core.one_leaf import cast_numbers, view
from jopt.core.other_tensors import others_through
from jopt.core.ownership import Lie, lies_of
from jopt.core.rules import check_rule, of_rule
from jopt.core.some_rows import matrices_of, with_rows
from jopt.core.spec import Spec
from jopt.core.transform import Flow, Transform
from jopt.core.tree import Layout
from jopt.numerics import real_dtype
from jopt.numerics.repeated import traced


@configured("jopt.", shared=Steps, named_by="spec")
def matrixwise(
    spec: Spec,
    rule: Callable[[Any, Any, Any, Any], Run],
    batch: Batch,
    *,
    alike: bool = False,
    spread: Batch | None = None,
    work: WorkOf | None = None,
    prepare: Prepare | None = None,
    options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Transform:
    """Lift a rule for one matrix, and linear algebra for a stack of them, to a transform.

    The arguments are those of `leafwise`, and

    - `batch`: `batch(stack, h)`, or with slots that are `owned`, `batch(stack, s, h)`, which gives
      the new stack and a dict of these slots; or a generator of that, see the module.
    - `alike`: whether `batch` does to a transposed matrix the same, transposed.
    - `spread`: `spread(stack, h, names)`, the same for matrices of which each device along these
      mesh axes has some columns, if there is a way: for those too large to be one device's. It
      is for `alike` and without slots that are owned.
    - `work`: `work(shape, h)`, what a matrix of this shape takes: the operations, and where a team
      of devices shares them, the bytes that each has to get of the others, and in how many
      collectives. `batch(stack, h, team)` is then called with a team, too, where matrices are
      left that do not go round: all of the team have `stack`, `team.rows(x)` are a device's
      rows of matrices, and `team.whole(rows)` the matrices of the rows that each has. It is for
      `alike`, without slots that are owned.

    The spec declares `ndim=2`, or other numbers of axes beside: the rule of a leaf that is no
    matrix sees all of its slots, also those that are owned. It yields nothing, or where `batch` is
    a generator, a pair `x, slots`, a dict, and gets back what `batch` makes of both: on one device
    of all leaves of a shape, as it does with matrices, on a mesh of each alone, as it lies.
    """
    given = {"spread": spread, "work": work}
    more = {name: function for name, function in given.items() if function is not None}
    check_rule(spec, rule, prepare, options, batch=batch, **more)
    if not isinstance(alike, bool):
        raise ConfigError(
            spec.name, "alike is yes or no", expected="True or False", found=repr(alike)[:100]
        )
    over = {slot.name: slot.turned for slot in spec.slots if slot.turned}
    if any(over.get(other) != name for name, other in over.items()):
        raise ConfigError(
            spec.name,
            "a slot's place where matrices are turned over is not a slot that takes its own",
            expected="slots that name each other, or themselves",
            found=", ".join(f"{name}: {other}" for name, other in over.items()),
        )
    part = MatrixPart(spec, rule, prepare, options, arguments)
    part.batch, part.alike, part.spread, part.work = batch, alike, spread, work
    return Transform({spec.name: part})


Lies = list[Lie | None]


class MatrixPart(DealtPart):
    """A rule for matrices, its linear algebra batched by shape."""

    batch: Batch
    spread: Batch | None = None
    work: WorkOf | None = None

    def remade(
        self, spec: Spec, ending: Ending, numbers: Mapping[str, Any] | None = None, **other: Any
    ) -> Self:
        """See `SpecPart.remade`."""
        made = super().remade(spec, ending, numbers, **other)
        made.batch, made.alike = self.batch, self.alike
        made.spread, made.work = self.spread, self.work
        made.told, made.deals = self.told, self.deals
        return made

    @property
    def owned(self) -> Mapping[str, bool]:
        """The slots that `batch` alone sees, with whether they are like the matrix."""
        return {slot.name: slot.shape == "like" for slot in self.slots if slot.owned}

    @functools.cached_property
    def read(self) -> frozenset[str]:
        """See `DealtPart.read`."""
        owned, static = [slot for slot in self.slots if slot.owned], dict(self.frozen_options)
        of = self.batch, self.spread, self.prepare
        return numbers_read(*of, owned, self.numbers, self.options, static)

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Any], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Any]]:
        """Apply the rule; see `SpecPart.run`."""
        # Leaves of one age read the same step, and what is prepared from it.
        ages: dict[Any, list[int]] = {}
        for i, leaf in enumerate(leaves):
            ages.setdefault(leaf.age, []).append(i)
        found: dict[int, Outcome] = {}
        for members in ages.values():
            of = [leaves[i] for i in members]
            done, shared = self._of_one_age(of, shared, flow.layout)
            found |= zip(members, done, strict=True)
        return [found[i] for i in range(len(leaves))], shared

    def _of_one_age(
        self, leaves: Sequence[Leaf], stacks: Stacks, layout: Layout
    ) -> tuple[list[Outcome], Stacks]:
        numbers = leaves[0].numbers.read()
        owned, options = self.owned, dict(self.frozen_options)
        shared = (self.spread, self.work) if self.alike and not owned else (None, None)
        over = {slot.name: slot.turned for slot in self.slots if slot.owned and slot.turned}
        told = self.name, self.batch, self.alike, owned, numbers, options
        algebra = Algebra(*told, *shared, over)
        begun_all = [self._begun(leaf) for leaf in leaves]
        waiting = [w for w in begun_all if not w.done]
        # Asked once: on explicit axes the answer takes a trace of its own.
        lies = None if any(w.other for w in waiting) else self._lies(waiting)
        loads = self._loads(waiting, lies)
        if not loads:
            stacks = self._through(algebra, waiting, stacks, layout, lies)
            return [w.outcome for w in begun_all], stacks

        def at_once() -> list[Pair]:
            self._through(algebra, waiting, {}, layout, lies)
            return [(w.outcome.update, w.outcome.slots) for w in waiting]

        def run(leaves: Sequence[Leaf]) -> list[Outcome]:
            mine = [self._begun(leaf) for leaf in leaves]
            self._through(algebra, mine, {}, layout)
            return [w.outcome for w in mine]

        def in_loads() -> list[Pair]:
            # Rules are begun anew: what they yield must not be there before its turn.
            return load_by_load(loads, [w.leaf for w in waiting], run, self.spec.steps)

        found = jax.lax.platform_dependent(tpu=in_loads, default=at_once)
        for w, (update, slots) in zip(waiting, found, strict=True):
            w.outcome = Outcome(update, slots=slots)
        return [w.outcome for w in begun_all], stacks

    def _begun(self, leaf: Leaf) -> Waiting:
        return begun(self._started, leaf, self.owned if is_matrix(leaf) else {}, self.held)

    def _loads(self, waiting: Sequence[Waiting], lies: Lies | None) -> list[list[int]]:
        """Those that go one after the other on a TPU; none where all go at once.

        As on a mesh, and where each load would have slots to renew: to compile what renews them
        takes long.
        """
        xs = [w.x for w in waiting]
        if self.owned or not traced(xs) or lies is None or any(lies):
            return []
        loads = loads_of(xs)
        return loads if len(loads) > len({(x.shape[-2:], x.dtype) for x in xs}) else []

    def _through(
        self,
        algebra: Algebra,
        waiting: Sequence[Waiting],
        stacks: Stacks,
        layout: Layout,
        first: Lies | None = None,
    ) -> Stacks:
        """Rules that wait, to their end; `first` is how lies what they wait for now, if known."""
        while waiting := self._others(algebra, waiting):
            lies, first = self._lies(waiting) if first is None else first, None
            of = [w.x for w in waiting], [w.kept for w in waiting], lies
            paths = [layout.paths[w.leaf.index] for w in waiting]
            results, kept, stacks = with_rows(algebra, *of, paths, stacks)
            waiting = [
                w for w, x, own in zip(waiting, results, kept, strict=True) if w.goes_on(x, own)
            ]
        return stacks

    def _others(self, algebra: Algebra, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Those that wait for matrices, when none waits for other tensors any more."""
        while others := [w for w in waiting if w.other]:
            given = others_through(algebra, others, self._lies(others))
            for w, found in zip(others, given, strict=True):
                w.done = not w.goes_on(found, w.kept)
            waiting = [w for w in waiting if not w.done]
        return [*waiting]

    def _lies(self, waiting: Sequence[Waiting]) -> Lies:
        """How the tensors of leaves lie; `None` where there is no mesh."""
        told: list[NamedSharding | None] = []
        for w in waiting:
            own, stack = self.told.get(w.leaf.name), w.leaf.stack
            if own is not None and stack is not None:
                own = own.update(spec=parted_spec(own, stack))
            told.append(own)
        xs = [w.x[0] if w.other else matrices_of(w.x) for w in waiting]
        return [lie if x.size else None for x, lie in zip(xs, lies_of(xs, told), strict=True)]

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
        d, new = of_rule(self.rule, self.ending.of_rule(s), (yield from run))
        new = {**new, **self.ending.kept(s)}
        return self.ending.finish(d, g, new, p, h), new


def is_matrix(leaf: Leaf) -> bool:
    """Whether a leaf is a matrix, or holds some."""
    return (leaf.g.ndim if leaf.stack is None else len(leaf.stack.tensor)) == 2
