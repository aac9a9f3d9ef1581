"""One step for the gradients of several micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jopt.base import ConfigError, TreeError, configured
from jopt.core import Transform
from jopt.core.checks import is_sparse
from jopt.core.transform import Flow, Leaves, Node, moved
from jopt.core.tree import Layout, lookup, nest
from jopt.core.wrap import WrapperPart
from jopt.numerics import compute_dtype


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
        live = self._live(params)
        sums = [jnp.zeros_like(params[i], compute_dtype(params[i].dtype)) for i in live]
        return {"micro": jnp.int32(0), "mean": nest([layout.paths[i] for i in live], sums)}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """Add a gradient; at the last of a round, step and start anew."""
        leaves = flow.updates if flow.params is None else flow.params
        live = self._live(leaves)
        paths = [flow.layout.paths[i] for i in live]
        mean = [
            self._added(lookup(node["mean"], path), flow.updates[i], flow.layout.names[i])
            for i, path in zip(live, paths, strict=True)
        ]
        stepped = False

        def step(mean: Leaves, inner: Node) -> tuple[Leaves, Leaves, Node]:
            nonlocal stepped
            updates: Leaves = [None] * len(leaves)
            for i, m in zip(live, mean, strict=True):
                updates[i] = m
            after, inner = self.inner_update(moved(flow, updates), inner)
            stepped = after.stepped
            return after.updates, [jnp.zeros_like(m) for m in mean], inner

        def wait(mean: Leaves, inner: Node) -> tuple[Leaves, Leaves, Node]:
            shapes, _, _ = jax.eval_shape(step, mean, inner)
            return [_zeros(s) for s in shapes], mean, inner

        last = node["micro"] == self.every - 1
        updates, mean, inner = jax.lax.cond(last, step, wait, mean, node["inner"])
        new = {
            "micro": jnp.where(last, 0, node["micro"] + 1),
            "mean": nest(paths, mean),
            "inner": inner,
        }
        return moved(flow, updates, steps=stepped), new

    def _live(self, leaves: Leaves) -> list[int]:
        return [
            i
            for i, x in enumerate(leaves)
            if x is not None and jnp.issubdtype(x.dtype, jnp.inexact)
        ]

    def _added(self, mean: Any, g: Any, path: str) -> Any:
        if g is None:
            return mean
        if is_sparse(g):
            raise TreeError(
                self.name,
                "sparse gradients cannot be accumulated",
                path=path,
                fix="Add up the rows yourself: jopt.row_gradient takes repeated ones.",
            )
        return mean + g.astype(mean.dtype) / self.every


def _zeros(shape: Any) -> Any:
    return None if shape is None else jnp.zeros(shape.shape, shape.dtype)


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
    least float32. A `None` gradient counts as zero here.

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
