"""Adamax: Adam with the infinity norm."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Common, Hyper, Slot, Spec, Transform, Value, leafwise
from jopt.numerics import debias, lerp

SPEC = Spec(
    name="adamax",
    torch="Adamax",
    hypers=(
        Hyper("learning_rate", "[0, inf)", torch="lr"),
        Hyper("b1", "[0, 1)", torch="betas[0]"),
        Hyper("b2", "[0, 1)", torch="betas[1]"),
        Hyper("eps", "[0, inf)", torch="eps"),
        Hyper("weight_decay", "[0, inf)", torch="weight_decay"),
    ),
    slots=(Slot("mu", torch="exp_avg"), Slot("nu", torch="exp_inf", signed=False)),
    options={"maximize": "maximize"},
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The step size, with the bias of μ corrected."""
    return {"step": h.learning_rate / debias(h.b1, h.t)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adamax`."""
    g = (-g if h.maximize else g) + h.weight_decay * p
    mu = lerp(s.mu, g, 1 - h.b1)
    nu = jnp.maximum(h.b2 * s.nu, jnp.abs(g) + h.eps)
    return -h.step * (mu / nu), {"mu": mu, "nu": nu}


@configured("jopt.", SPEC.torch_names)
def adamax(
    learning_rate: Value = 2e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    maximize: bool = False,
    **common: Unpack[Common],
) -> Transform:
    """Adamax, as `torch.optim.Adamax`: Adam whose second moment is a decaying maximum.

    With η the learning rate, λ the weight decay and t the step from 1:

        g ← g + λ·p
        μ ← μ + (1 − β₁)·(g − μ)
        ν ← max(β₂·ν, |g| + ε)
        p ← p − η / (1 − β₁ᵗ) · μ / ν

    ν needs no bias correction: it is a maximum, not a mean.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, inside the maximum. With 0, an entry that never had a gradient is 0 / 0.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `maximize`: ascend: the gradient changes sign before the decay is added.
    - `**common`: `groups`, `state_dtype` and `kernel`, see `jopt.Common`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Kingma and Ba, 2015, algorithm 2, with torch's ε, which the paper does not have.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adamax(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
    return leafwise(
        SPEC,
        rule,
        prepare=prepare,
        options={"maximize": maximize},
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        **common,
    )
