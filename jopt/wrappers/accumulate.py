"""One step for the gradients of several micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, TreeError, configured
from jopt.core import Transform
from jopt.core.checks import is_sparse
from jopt.core.side_by_side import side_by_side
from jopt.core.transform import Add, Flow, Leaves, Node, moved
from jopt.core.tree import Layout, lookup, nest
from jopt.core.wrap import WrapperPart
from jopt.numerics import compute_dtype, number_dtype, once_if


class AccumulatePart(WrapperPart):
    """The wrapped parts at every n-th update, on the mean of n gradients."""

    def __init__(self, name: str, tx: Any, every: int) -> None:
        super().__init__(name, tx)
        self.every = every

    @property
    def choices(self) -> Mapping[str, Any]:
        """The length of a round."""
        return {"every": self.every}

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """A counter, and a sum for every parameter that can have a gradient."""
        live = _inexact(params)
        sums = [jnp.zeros_like(params[i], compute_dtype(params[i].dtype)) for i in live]
        return {"micro": jnp.int32(0), "mean": nest([layout.paths[i] for i in live], sums)}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """Add a gradient; at the last of a round, step."""
        last, held, own = self._added(flow, node)
        here = moved(flow, self._means(flow, held, first=False))
        after = jax.eval_shape(lambda: self.inner_update(here, node["inner"])[0].updates)
        zeros = [None if u is None else jnp.zeros(u.shape, u.dtype) for u in after]
        stepped = False

        def inner_step(at: tuple[Leaves, Node]) -> tuple[Leaves, Node]:
            nonlocal stepped
            here = moved(flow, self._means(flow, held, node["micro"] == 0))
            after, inner = self.inner_update(here, at[1])
            stepped = after.stepped
            return after.updates, inner

        updates, inner = once_if(last, inner_step, (zeros, node["inner"]))
        return moved(flow, updates, steps=stepped), {**own, "inner": inner}

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """As `update`; between its steps the parameters are neither read nor written."""
        last, held, own = self._added(flow, node)

        def inner_step(at: tuple[Leaves, Node]) -> tuple[Leaves, Node]:
            mean = self._means(flow, held, node["micro"] == 0)
            return self.inner_step(replace(flow, updates=mean, params=at[0]), at[1], add)

        params, inner = once_if(last, inner_step, (list(flow.params or []), node["inner"]))
        return params, {**own, "inner": inner}

    def _added(self, flow: Flow, node: Node) -> tuple[Array, Node, Node]:
        """Whether this is the last of a round, the sums so far, and the own entries after it."""
        first, last = node["micro"] == 0, node["micro"] == self.every - 1

        def added(held: Node) -> Any:
            means = self._means(flow, held, first)
            live = self._live(flow)
            return nest([flow.layout.paths[i] for i in live], [means[i] for i in live])

        # The last gradient of a round goes straight into the step, and is not stored.
        held: Node = once_if(~last, added, node["mean"])
        micro = jnp.where(last, 0, node["micro"] + 1)
        return last, held, {"micro": micro, "mean": held}

    def _means(self, flow: Flow, held: Node, first: Any) -> Leaves:
        """The means with this gradient's share. The sums of the last round start anew here."""
        # As a number among others, for the sake of `side_by_side`.
        numbers = {"begins": first, "every": self.every}
        numbers = side_by_side(
            {k: jnp.asarray(x, number_dtype()) for k, x in numbers.items()}
        ).read()
        means: Leaves = [None] * len(flow.updates)
        for i in self._live(flow):
            held_i = lookup(held, flow.layout.paths[i])
            so_far = jnp.where(numbers["begins"] > 0, 0, held_i)
            means[i] = self._plus(so_far, flow.updates[i], numbers["every"], flow.layout.names[i])
        return means

    def _live(self, flow: Flow) -> list[int]:
        return _inexact(flow.updates if flow.params is None else flow.params)

    def _plus(self, mean: Any, g: Any, every: Any, path: str) -> Any:
        if g is None:
            return mean
        if is_sparse(g):
            raise TreeError(
                self.name,
                "sparse gradients cannot be accumulated",
                path=path,
                fix="Add up the rows yourself: jopt.row_gradient takes repeated ones.",
            )
        return mean + g.astype(mean.dtype) / every.astype(mean.dtype)


def _inexact(leaves: Leaves) -> list[int]:
    kinds = [None if x is None else x.dtype for x in leaves]
    return [i for i, k in enumerate(kinds) if k is not None and jnp.issubdtype(k, jnp.inexact)]


@configured("jopt.")
def accumulate(tx: Any, every: int) -> Transform:
    """Step once for `every` updates, with the mean of their gradients.

    For batches larger than memory: call `update` for each micro-batch. The wrapped transform
    runs at every n-th call only; in between the updates are zero, and its state, schedules and
    step count rest. With losses that are means over equal micro-batches the result is that
    of one large batch.

    **Arguments:**

    - `tx`: any transform; put clipping inside, so that it sees the mean.
    - `every`: how many updates make a step, at least 1.

    **State:** `{"accumulate": {"micro": ..., "mean": ..., "inner": {...}}}`: the number of
    gradients in the round so far, and their share of the mean, like the parameters, in at
    least float32 (what it holds where `micro` is 0 is left over from the last round). A `None`
    gradient counts as zero here.

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
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ConfigError(
            "accumulate",
            "every is a number of updates",
            expected="an int of at least 1",
            found=repr(every),
        )
    return Transform({"accumulate": AccumulatePart("accumulate", tx, every)})
