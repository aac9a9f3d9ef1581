"""A loss scaled up, so that gradients in float16 do not vanish, by as much as they can bear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, configured
from jopt.core import Hyper, Slot, Spec, State, Transform, Value, chain
from jopt.core.groups import DEFAULT
from jopt.core.hyperparams import nodes
from jopt.core.transform import Flow, Node
from jopt.numerics import all_finite, compute_dtype
from jopt.wrappers.judged import TALLY, JudgePart, tallied

SPEC = Spec(
    name="loss_scale",
    hypers=(
        Hyper("init_scale", "(0, inf)", scheduled=False),
        Hyper("growth_factor", "[1, inf)"),
        Hyper("backoff_factor", "(0, 1]"),
        Hyper("growth_interval", "[1, inf)"),
    ),
    slots=(
        Slot("scale", "scalar", init="init_scale", scope="group", dtype="float32"),
        Slot("growth_tracker", "scalar", scope="group", dtype="int32"),
        *TALLY,
    ),
    steps=False,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `loss_scale`; the gradients are in at least float32 already."""
    finite = all_finite(g)
    good = s.growth_tracker + 1
    grows = finite & (good >= h.growth_interval.astype(jnp.float32).astype(jnp.int32))
    larger = s.scale * h.growth_factor.astype(s.scale.dtype)
    larger = jnp.where(jnp.isfinite(larger), larger, s.scale)
    least = jnp.finfo(s.scale.dtype).tiny
    smaller = jnp.maximum(s.scale * h.backoff_factor.astype(s.scale.dtype), least)
    scale = jnp.where(finite, jnp.where(grows, larger, s.scale), smaller)
    back = 1 / s.scale
    return [x * back.astype(x.dtype) for x in g], {
        "scale": scale,
        "growth_tracker": jnp.where(finite & ~grows, good, 0),
        **tallied(s, finite),
    }


class LossScalePart(JudgePart):
    """The rule, and the same done to the gradients of `grad=`."""

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """The gradients scaled back."""
        after, new = super().update(flow, node)
        grad = flow.extra.get("grad")
        if grad is not None:
            back = 1 / node["scale"][DEFAULT]
            scaled = jax.tree.map(lambda g: _times(g, back), grad)
            after = replace(after, extra={**after.extra, "grad": scaled})
        return after, new


def _times(g: Any, factor: Array) -> Any:
    if not jnp.issubdtype(g.dtype, jnp.inexact):
        return g
    wide = g.astype(compute_dtype(g.dtype))
    return wide * factor.astype(wide.dtype)


@configured("jopt.")
def loss_scale(
    tx: Any,
    *,
    init_scale: float = 65536.0,
    growth_factor: Value = 2.0,
    backoff_factor: Value = 0.5,
    growth_interval: Value = 2000,
) -> Transform:
    """Take the gradients of a scaled loss, and find the scale: for training in float16.

    Multiply the loss by `jopt.loss_scale_of(state)` before you take its gradients. With σ the
    scale:

        g ← g / σ, in at least float32, if all of g is finite; else there is no step
        σ ← a·σ after every n steps in a row;  σ ← b·σ after an overflow

    as torch's `GradScaler`, whose defaults these are. Parameters, moments, schedules and counts
    rest where there is no step. Clipping goes inside. `jopt.accumulate` may stand on either
    side; outside, an overflow costs the whole round, and the scale rests in it.

    **Arguments:**

    - `tx`: any transform.
    - `init_scale`: the first σ > 0; read only by `init`.
    - `growth_factor`, `backoff_factor`: a ≥ 1 and 0 < b ≤ 1.
    - `growth_interval`: n ≥ 1.

    The last three are numbers or schedules of the update.

    **In `update` and `jopt.step`:** `grad=` is scaled back like the gradients; a loss in `value=`,
    and the function `value_fn=`, are meant to be without σ.

    **State:** that of `tx`, and under `loss_scale` σ as `scale`, the steps since it changed in
    `growth_tracker`, and how many steps were left out, in `total` and `in_a_row` up to now.
    Metrics of those are kept as by `jopt.skip_nonfinite`. An infinite σ is not taken, nor 0.

    **Raises:** `ConfigError` for numbers out of range.

    Source: Micikevicius et al., 2018, "Mixed precision training", section 3.2; torch.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.loss_scale(jopt.sgd(1.0), init_scale=8.0)
    >>> params = {"w": jnp.float16(1.0)}
    >>> state = tx.init(params)
    >>> for g in (jnp.float16(8.0), jnp.float16(jnp.inf)):  # of the loss times 8
    ...     params, state = jopt.step(tx, {"w": g}, state, params)
    >>> float(params["w"]), float(jopt.loss_scale_of(state))
    (0.0, 4.0)
    """
    numbers = {
        "init_scale": init_scale,
        "growth_factor": growth_factor,
        "backoff_factor": backoff_factor,
        "growth_interval": growth_interval,
    }
    return chain(Transform({"loss_scale": LossScalePart(SPEC, rule, None, None, numbers)}), tx)


def loss_scale_of(state: State) -> Array:
    """What to multiply the loss by: the scale of `jopt.loss_scale` in this state, or 1.

    **Arguments:** `state`: the state of any transform, or what holds it, see `jopt.hyperparams`.

    **Raises:** `ConfigError` if there are several; `StateError` where there is no state.

    >>> import jax.numpy as jnp, jopt
    >>> float(jopt.loss_scale_of(jopt.sgd(0.1).init(jnp.zeros(3))))
    1.0
    """
    found = {
        name: node["scale"][DEFAULT]
        for name, node in nodes(state, "loss_scale_of")
        if "growth_tracker" in node and isinstance(node.get("scale"), Mapping)
    }
    if len(found) > 1:
        raise ConfigError("loss_scale_of", "there are several scales", found=", ".join(found))
    return jnp.asarray(next(iter(found.values()), 1.0), jnp.float32)
