"""Gradients corrected by how they changed, in front of any optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, configured
from jopt.core import Groups, Hyper, Slot, Spec, Transform, Value, chain
from jopt.core.axes import StackAxes
from jopt.core.doors import LeafPart
from jopt.core.extras_seen import leaves_seen
from jopt.core.leaf import Leaf, Outcome
from jopt.core.stack import Held
from jopt.core.transform import Flow
from jopt.numerics import in_place, norm

SPEC = Spec(
    name="mars",
    hypers=(
        Hyper("correction", "[0, inf)"),
        Hyper("b1", "[0, 1)"),
        Hyper("max_norm", "(0, inf)", optional=True),
    ),
    slots=(Slot("previous", when=lambda on: not on["exact"]),),
    options={"exact": None},
    extra=lambda on: ("previous_grad",) if on["exact"] else (),
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


class MarsPart(LeafPart):
    """The rule for each leaf; with `exact` the last gradient comes from outside at every step."""

    def __init__(self, *made_of: Any) -> None:
        super().__init__(*made_of)
        self.seen: tuple[()] = ()  # a leaf's rule sees its own leaf of it, and not the tree

    @property
    def held(self) -> Held:
        """See `SpecPart.held`; what comes from outside is taken apart as what is kept would be."""
        return replace(super().held, slots=SPEC.slots)

    def run(
        self, leaves: Sequence[Leaf], shared: dict[str, Array], flow: Flow
    ) -> tuple[list[Outcome], dict[str, Array]]:
        """Apply the rule; see `SpecPart.run`."""
        if self.options["exact"]:
            members = [x.index for x in leaves]
            tree = flow.extra["previous_grad"]
            given = leaves_seen(self.name, "previous_grad", tree, members, flow)
            leaves = [
                replace(x, slots={"previous": jnp.asarray(x.g if before is None else before)})
                for x, before in zip(leaves, given, strict=True)
            ]
        return super().run(leaves, shared, flow)


@configured("jopt.")
def mars(
    tx: Any,
    *,
    correction: Value = 0.025,
    b1: Value = 0.95,
    max_norm: Value | None = 1.0,
    exact: bool = False,
    groups: Groups = None,
    axes: StackAxes = None,
) -> Transform:
    """Correct each gradient by its change since the last step, for less variance.

    With g₋ the gradient of the step before, 0 before the first; or, exactly, that of this batch at
    the parameters before:

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
    - `exact`: `update` and `jopt.step` take g₋ as `previous_grad=`, a tree like the gradients: a
      second gradient at each step, of this batch at the parameters of the step before. At the
      first step it is the gradient itself; a `None` in it, too, leaves a gradient as it is.
    - `groups`: other numbers for some leaves.
    - `axes`: how leaves hold their tensors, see `jopt.Common`; `tx` has its own.

    **State:** that of `tx`, and under `mars` the last gradients, `previous`, in at least float32;
    not with `exact`. A leaf without gradient keeps its own.

    **Raises:** `ConfigError` for numbers out of range, and for no `previous_grad=` with `exact`.

    Source: Yuan et al., 2024, "MARS: unleashing the power of variance reduction for training large
    models", algorithm 2, with `exact`; without it, the approximation of section 3.2: g₋ is of
    another batch, and at the first step 0, as in the authors' code.

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
    if not isinstance(exact, bool):
        raise ConfigError("mars", "exact is yes or no", expected="a bool", found=repr(exact)[:100])
    numbers = {"correction": correction, "b1": b1, "max_norm": max_norm}
    common = {"groups": groups, "axes": axes}
    part = MarsPart(SPEC, rule, prepare, {"exact": exact}, numbers | common)
    return chain(Transform({part.name: part}), tx)
