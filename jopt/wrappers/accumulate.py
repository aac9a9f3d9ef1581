"""One step for the gradients of several micro-batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, TreeError, configured, number_of
from jopt.core import Transform
from jopt.core.checks import check_count, is_sparse
from jopt.core.kept_metrics import given, mean, none_kept, with_this
from jopt.core.nested import flatten_dict, has, lookup, nest
from jopt.core.row import only_if, stepped, through
from jopt.core.side_by_side import Numbers, side_by_side
from jopt.core.transform import Add, Flow, Leaves, Node, Part, State, like_given
from jopt.core.tree import Layout, match_leaves
from jopt.core.wrap import WrapperPart
from jopt.numerics import compute_dtype, number_dtype, once_if
from jopt.numerics.explicit import zeros_of


@dataclass(frozen=True)
class Turn:
    """One update: whether it is the `last` of its round, and what the step then gets."""

    last: Array
    means: Callable[[], Leaves]
    extra: Mapping[str, Any]

    def flow(self, flow: Flow) -> Flow:
        """The flow with the means of the round, of the gradients and of the metrics."""
        means, extra = self.means(), dict(self.extra)
        if extra.get("grad") is not None:
            given = match_leaves("update", "the gradients of grad=", flow.layout, extra["grad"])
            each = zip(like_given(means, flow.updates), given, strict=True)
            extra["grad"] = flow.tree([g if mean is None else mean for mean, g in each])
        return replace(flow, updates=means, extra=extra)


class AccumulatePart(WrapperPart):
    """The wrapped parts at every n-th update, on the mean of n gradients."""

    leads = True

    def __init__(self, name: str, tx: Any, every: int | Callable[[Any], Any]) -> None:
        super().__init__(name, tx)
        self.every = every
        self.rests = True

    @property
    def choices(self) -> Mapping[str, Any]:
        """The length of a round."""
        return {"every": self.every}

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """A counter, a sum for every parameter that can have a gradient, and what is heard."""
        live = _summed(layout, params)
        sums = [jnp.zeros_like(params[i], compute_dtype(params[i].dtype)) for i in live]
        total = nest([layout.paths[i] for i in live], sums)
        rounds = {"rounds": jnp.int32(0)} if callable(self.every) else {}
        return {"micro": jnp.int32(0), "sum": total, **rounds, **none_kept(self.metrics)}

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """Leaves that join in the middle of a round count their own gradients."""
        new = super().extend(layout, params, node)
        own, before = node.get("leaf_micro", {}), flatten_dict(node["sum"])
        counts = {
            path: lookup(own, path) if has(own, path) else jnp.int32(0)
            for path in flatten_dict(new["sum"])
            if has(own, path) or path not in before
        }
        return {**new, "leaf_micro": nest(counts, counts.values())} if counts else new

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """Add a gradient; at the last of a round, step."""
        after, node, _ = self.lead(flow, node, {}, {})
        return after, node

    def lead(
        self, flow: Flow, node: Node, rest: Mapping[str, Part], nodes: State
    ) -> tuple[Flow, Node, State]:
        """The same, and what stands behind steps with it."""
        turn, own = self._turn(flow, node)
        steps = False

        def one(at: tuple[Any, Any, Node, State]) -> tuple[Any, Any, Node, State]:
            nonlocal steps
            after, inner = self.inner_update(turn.flow(flow), at[2])
            after, others = through(rest, after, at[3])
            steps = after.stepped
            return after.updates, after.took, inner, others

        start = (None, None, node["inner"], nodes)
        shapes = jax.eval_shape(lambda: one(start)[:2])
        none = jax.tree.map(zeros_of, shapes)
        updates, took, inner, others = once_if(turn.last, one, (*none, *start[2:]))
        after = replace(flow, updates=updates, stepped=flow.stepped or steps, extra=turn.extra)
        after = replace(after, took=turn.last if took is None else took)
        return after, {**own, "inner": inner}, others

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """As `update`; between its steps the parameters are neither read nor written."""
        leaves, node, _ = self.lead_step(flow, node, {}, {}, add)
        return leaves, node

    def lead_step(
        self, flow: Flow, node: Node, rest: Mapping[str, Part], nodes: State, add: Add
    ) -> tuple[Leaves, Node, State]:
        """The same, and what stands behind is neither read nor written, too."""
        turn, own = self._turn(flow, node)
        still, params = flow.layout.still, list(flow.params or [])

        def moving(leaves: Leaves) -> Leaves:
            return [None if i in still else p for i, p in enumerate(leaves)]

        def whole(leaves: Leaves) -> Leaves:
            return [params[i] if i in still else p for i, p in enumerate(leaves)]

        def one(at: tuple[Leaves, Node, State]) -> tuple[Leaves, Node, State]:
            here = turn.flow(replace(flow, params=whole(at[0])))
            if not rest:
                leaves, inner = self.inner_step(here, at[1], add)
                return moving(leaves), inner, {}
            after, inner = self.inner_update(here, at[1])
            leaves, others = stepped(rest, after, at[2], add)
            return moving(leaves), inner, others

        start = (moving(params), node["inner"], nodes)
        leaves, inner, others = once_if(turn.last, one, start)
        return whole(leaves), {**own, "inner": inner}, others

    def _turn(self, flow: Flow, node: Node) -> tuple[Turn, Node]:
        """What this update does, and the own entries after it."""
        every: Any = self.every
        rounds = ("rounds",) if callable(every) else ()
        self.check_own(node, "micro", "sum", *rounds)
        if callable(every):
            length = number_of(self.name, "every", every, node["rounds"], dtype=number_dtype())
            every = jnp.round(length).astype("int32")
        live = _summed(flow.layout, flow.updates if flow.params is None else flow.params)
        paths = {i: flow.layout.paths[i] for i in live}
        # Without any gradient there is nothing to count: the round ends, or waits on.
        more = jnp.int32(not live or any(flow.updates[i] is not None for i in live))
        late = flatten_dict(node.get("leaf_micro", {}))
        before = {(): node["micro"], **late}
        number = {path: count + more for path, count in before.items()}
        # `>=`: a round that was begun with a larger `every` ends at once.
        last = (number[()] >= every) & (number[()] > 0)
        if flow.extra.get("flush") is not None:
            last = last | (_flag(flow.extra["flush"]) & (number[()] > 0))
        shares = {path: _share(before[path], count) for path, count in number.items()}

        def sums(held: Node, share: bool) -> Leaves:
            """The sums with this gradient; as means, with `share`."""
            out: Leaves = [None] * len(flow.updates)
            for i, path in paths.items():
                begins, numbers = shares.get(path, shares[()])
                begun = jax.lax.index_in_dim(begins, 0, keepdims=False)
                so_far = jnp.where(begun, 0, lookup(held, path))
                total = self._plus(so_far, flow.updates[i], flow.layout.names[i])
                out[i] = total * numbers.read()["share"].astype(total.dtype) if share else total
            return out

        def added(held: Node) -> Any:
            total = sums(held, False)
            return nest(paths.values(), [total[i] for i in live])

        # The last gradient of a round goes straight into the step, and is not stored.
        held: Node = once_if(~last, added, node["sum"])
        left = {path: jnp.where(last, 0, count) for path, count in number.items()}
        own = {"micro": left.pop(()), "sum": held}
        if rounds:
            own["rounds"] = node["rounds"] + last.astype("int32")
        if late:
            own["leaf_micro"] = nest(left, left.values())
        extra = dict(flow.extra)
        if self.metrics:
            heard = with_this(node["metrics"], flow.extra)
            own["metrics"] = only_if(~last, heard, jax.tree.map(jnp.zeros_like, heard))
            extra |= {k: mean(heard[k]) for k in heard if given(extra, k)}
        return Turn(last, functools.partial(sums, held, True), extra), own

    def _plus(self, total: Any, g: Any, path: str) -> Any:
        if g is None:
            return total
        if is_sparse(g):
            raise TreeError(
                self.name,
                "sparse gradients cannot be accumulated",
                path=path,
                fix="Add up the rows yourself: jopt.row_gradient takes repeated ones.",
            )
        return total + g.astype(total.dtype)


def _summed(layout: Layout, leaves: Leaves) -> list[int]:
    """The leaves that have a sum: those that can have a gradient, and may move."""
    kinds = {i: x.dtype for i, x in enumerate(leaves) if x is not None and i not in layout.still}
    return [i for i, kind in kinds.items() if jnp.issubdtype(kind, jnp.inexact)]


def _share(before: Array, number: Array) -> tuple[Array, Numbers]:
    """Whether the sum begins here, and what one gradient counts in the mean of so many."""
    share = 1 / jnp.maximum(number, 1).astype(number_dtype())
    # Both as arrays, for the sake of `side_by_side`: leaves that read the same array share kernels,
    # and to compare a number of one would make it a scalar. A factor, as in `prepare`.
    begins = jax.lax.optimization_barrier(jnp.stack([before == 0] * 2))
    return begins, side_by_side({"share": share})


def _flag(flush: Any) -> Array:
    found = jnp.asarray(flush)
    if found.shape != () or found.dtype != bool:
        raise ConfigError(
            "accumulate",
            "flush= is no truth value",
            expected="a bool, or an array of one",
            found=f"{found.dtype}{list(found.shape)}",
        )
    return found


@configured("jopt.")
def accumulate(tx: Any, every: int | Callable[[Any], Any]) -> Transform:
    """Step once for `every` updates, with the mean of their gradients.

    For batches larger than memory: call `update` for each micro-batch. The wrapped transform
    runs at every n-th call only; in between the updates are zero, and its state, schedules and
    step count rest, as does all that stands behind, averages too. With losses that are means
    over equal micro-batches the result is that of one large batch.

    **Arguments:**

    - `tx`: any transform; put clipping inside, so that it sees the mean.
    - `every`: how many updates make a step, at least 1; or a schedule of that, which is read for
      each round with the number of rounds before it and rounded to a
      whole number.

    **In `update` and `jopt.step`:** `flush=True`, or an array of one bool, ends the round at this
    call, with the mean of the gradients that it had: for what is left at the end of an epoch.
    With `None` for every gradient it steps with what is there, or not at all if there is nothing.
    `value=` is a metric of each call: what wants one inside gets the mean of the finite ones in
    the round, and NaN if there were none.

    **State:** `{"accumulate": {"micro": ..., "sum": ..., "inner": {...}}}`: the number of
    gradients in the round so far, and their sum, like the parameters, in at least float32 (what
    it holds where `micro` is 0 is left over from the last round). A `None` gradient counts as
    zero here. A state in mid-round may be taken over with another `every`: the round ends as
    soon as it is long enough. A leaf that joins in mid-round has its own number in `leaf_micro`,
    and takes the mean of the gradients it had. `metrics` is there if something wants one,
    and `rounds`, how many have ended, if `every` is a schedule.

    Between the steps `jopt.step` does not touch parameters and moments: at 4 bytes a number
    it moves 12 bytes a parameter, where `update` and `apply_updates` move 28.

    **Raises:** `ConfigError` if `every` is no number of steps; `TreeError` for sparse gradients.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.accumulate(jopt.sgd(1.0), every=2)
    >>> params = {"w": jnp.float32(0.0)}
    >>> state = tx.init(params)
    >>> for g in (1.0, 3.0):
    ...     updates, state = tx.update({"w": jnp.float32(g)}, state, params)
    ...     print(updates["w"])
    0.0
    -2.0
    """
    if not callable(every):
        every = check_count("accumulate", "every", every, 1, of="updates")
    return Transform({"accumulate": AccumulatePart("accumulate", tx, every)})
