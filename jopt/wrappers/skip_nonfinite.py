"""Leaving out steps whose gradients overflowed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Transform
from jopt.core.checks import is_sparse
from jopt.core.counts import ticked
from jopt.core.kept_metrics import none_kept
from jopt.core.row import only_if, only_where
from jopt.core.transform import Flow, Leaves, Node
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart
from jopt.numerics import all_finite
from jopt.wrappers.judged import left, made_up_for


class SkipNonfinitePart(WrapperPart):
    """The wrapped parts, unless a gradient is not finite."""

    def __init__(self, name: str, tx: Any) -> None:
        super().__init__(name, tx)
        self.rests = True

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """Two counters, and the metrics of steps that were left out."""
        kept = none_kept(self.metrics)
        return {"total": jnp.int32(0), "in_a_row": jnp.int32(0), **kept}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """The wrapped step, or nothing at all."""
        extra = flow.extra
        finite = all_finite([_values(g) for g in flow.updates if g is not None])
        self.check_own(node, "total", "in_a_row")
        kept = node.get("metrics", {})
        flow = replace(flow, extra=made_up_for(kept, flow.extra))
        after, inner = self.inner_update(flow, node["inner"])
        # A choice within the same kernels, not a branch: what it would spare was read anyway.
        updates = [only_where(finite, u) for u in after.updates]
        took = finite if after.took is None else finite & after.took
        new = {
            "total": jnp.where(finite, node["total"], ticked(node["total"])),
            "in_a_row": jnp.where(finite, 0, ticked(node["in_a_row"])),
            "inner": only_if(finite, inner, node["inner"]),
        }
        if kept:
            new["metrics"] = left(finite, kept, extra)
        return replace(after, updates=updates, took=took), new


def _values(g: Any) -> Any:
    return g.data if is_sparse(g) else g


@configured("jopt.")
def skip_nonfinite(tx: Any) -> Transform:
    """Leave a step out if any gradient holds an infinity or a NaN.

    Parameters, moments, schedules and step counts are then what they were: the step did not
    happen. Wrap the whole chain, clipping included: a norm that is not finite spoils every
    leaf. It is the place of torch's `GradScaler`, which skips a step whose scaled gradients
    overflowed: `jopt.loss_scale` has the scale as well.

    A metric (`value=`) given with a step that was left out is not lost: where the next step comes
    with none (a NaN), what is inside gets the mean of the finite ones left out before. A `flush=`
    for an `accumulate` inside is left out with its gradients: give it again.

    **Arguments:** `tx`: any transform.

    **State:** `{"skip_nonfinite": {"total": ..., "in_a_row": ..., "inner": {...}}}`: how many
    steps were left out, and how many in a row up to now. Bad steps are never let through:
    watch `in_a_row`, and stop a run that cannot go on.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.skip_nonfinite(jopt.adamw(0.1))
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = tx.update({"w": jnp.array([1.0, jnp.inf])}, tx.init(params), params)
    >>> updates["w"], int(state["skip_nonfinite"]["in_a_row"])
    (Array([0., 0.], dtype=float32), 1)
    """
    return Transform({"skip_nonfinite": SkipNonfinitePart("skip_nonfinite", tx)})
