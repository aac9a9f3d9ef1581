"""Leaving out steps whose gradients overflowed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Transform
from jopt.core.checks import is_sparse
from jopt.core.counts import ticked
from jopt.core.transform import Flow, Leaves, Node, moved
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart, only_if
from jopt.numerics import all_finite


class SkipNonfinitePart(WrapperPart):
    """The wrapped parts, unless a gradient is not finite."""

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """Two counters."""
        return {"total": jnp.int32(0), "in_a_row": jnp.int32(0)}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """The wrapped step, or nothing at all."""
        finite = all_finite([_values(g) for g in flow.updates if g is not None])
        after, inner = self.inner_update(flow, node["inner"])
        # A choice within the same kernels, not a branch: what it would spare was read anyway.
        updates = [None if u is None else _if_finite(finite, u) for u in after.updates]
        new = {
            "total": jnp.where(finite, node["total"], ticked(node["total"])),
            "in_a_row": jnp.where(finite, 0, ticked(node["in_a_row"])),
            "inner": only_if(finite, inner, node["inner"]),
        }
        return moved(after, updates), new


def _values(g: Any) -> Any:
    return g.data if is_sparse(g) else g


def _if_finite(finite: Any, u: Any) -> Any:
    if is_sparse(u):  # row-sparse steps: their values are what is added
        return type(u)((jnp.where(finite, u.data, 0), u.indices), shape=u.shape)
    return jnp.where(finite, u, jnp.zeros_like(u))


@configured("jopt.")
def skip_nonfinite(tx: Any) -> Transform:
    """Leave a step out if any gradient holds an infinity or a NaN.

    Parameters, moments, schedules and step counts are then what they were: the step did not
    happen. Wrap the whole chain, clipping included: a norm that is not finite spoils every
    leaf. It is the place of torch's `GradScaler`, which skips a step whose scaled gradients
    overflowed; scale the loss and the gradients yourself.

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
