"""Gradients corrected by how they changed, in front of any optimizer."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Groups, Hyper, Slot, Spec, Transform, Value, chain, leafwise
from jopt.core.axes import StackAxes
from jopt.numerics import in_place, norm

SPEC = Spec(
    name="mars",
    hypers=(
        Hyper("correction", "[0, inf)"),
        Hyper("b1", "[0, 1)"),
        Hyper("max_norm", "(0, inf)", optional=True),
    ),
    slots=(Slot("previous"),),
    steps=False,
)


def prepare(h: Any) -> dict[str, Any]:
    """γ·β / (1 − β)."""
    return {"weight": h.correction * h.b1 / (1 - h.b1)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `mars`."""
    c = g + h.weight * (g - s.previous)
    if h.max_norm is not None:
        size = norm(c)
        c = c * jnp.where(size > h.max_norm, h.max_norm / jnp.where(size > 0, size, 1), 1)
    return c, {"previous": in_place(g, s.previous, h.correction >= 0)}


@configured("jopt.")
def mars(
    tx: Any,
    *,
    correction: Value = 0.025,
    b1: Value = 0.95,
    max_norm: Value | None = 1.0,
    groups: Groups = None,
    axes: StackAxes = None,
) -> Transform:
    """Correct each gradient by its change since the last step, for less variance.

    With g₋ the gradient of the step before, 0 before the first:

        c ← g + γ·β / (1 − β)·(g − g₋)
        c ← c·min(1, m / ‖c‖)          for each leaf alone, or each tensor of one

    and c is what `tx` takes for the gradient.

    **Arguments:**

    - `tx`: any optimizer; its own b1 should be the same β. `adamw(η, 0.95, 0.99)` makes it
      MARS-AdamW, `lion(η, 0.95, 0.95)` MARS-Lion, `muon(η, momentum=0.95, nesterov=False)`
      MARS-Shampoo. The authors leave vectors to AdamW: see `jopt.route`.
    - `correction`: γ ≥ 0, 0.025 in the authors' code.
    - `b1`: β in [0, 1), 0.95 there.
    - `max_norm`: m > 0, 1 in the paper, of each leaf; `None` for none.
    - `groups`: other numbers for some leaves.
    - `axes`: how leaves hold their tensors, see `jopt.Common`; `tx` has its own.

    **State:** that of `tx`, and under `mars` the last gradients, `previous`, in at least float32. A
    leaf without gradient keeps its own.

    **Raises:** `ConfigError` for numbers out of range.

    Source: Yuan et al., 2024, "MARS: unleashing the power of variance reduction for training large
    models", algorithm 2 with the approximation of section 3.2: g₋ is of another batch, and at the
    first step 0, as in the authors' code.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.mars(jopt.sgd(1.0), correction=1.0, b1=0.5, max_norm=None)
    >>> params = {"w": jnp.float32(0.0)}
    >>> state = tx.init(params)
    >>> for g in (1.0, 1.0, 3.0):
    ...     updates, state = tx.update({"w": jnp.float32(g)}, state, params)
    ...     print(updates["w"])
    -2.0
    -1.0
    -5.0
    """
    corrected = leafwise(
        SPEC,
        rule,
        prepare=prepare,
        correction=correction,
        b1=b1,
        max_norm=max_norm,
        groups=groups,
        axes=axes,
    )
    return chain(corrected, tx)
