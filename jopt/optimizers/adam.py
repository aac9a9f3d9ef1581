"""Adam."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.base import configured
from jopt.core import Common, Hyper, Slot, Spec, Transform, Value, leafwise
from jopt.numerics import adam_corrections, adam_direction, adam_moments

SPEC = Spec(
    name="adam",
    torch="Adam",
    hypers=(
        Hyper("learning_rate", "[0, inf)", torch="lr"),
        Hyper("b1", "[0, 1)", torch="betas[0]"),
        Hyper("b2", "[0, 1)", torch="betas[1]"),
        Hyper("eps", "[0, inf)", torch="eps"),
        Hyper("weight_decay", "[0, inf)", torch="weight_decay"),
    ),
    slots=(
        Slot("mu", torch="exp_avg"),
        Slot("nu", torch="exp_avg_sq", signed=False),
        Slot("nu_max", torch="max_exp_avg_sq", signed=False, when=lambda on: on["amsgrad"]),
    ),
    options={
        "amsgrad": "amsgrad",
        "maximize": "maximize",
        "decoupled": "decoupled_weight_decay",
    },
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections."""
    return adam_corrections(h.b1, h.b2, h.t)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adam`."""
    g = -g if h.maximize else g
    if not h.decoupled:
        g = g + h.weight_decay * p
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    new = {"mu": mu, "nu": nu}
    if h.amsgrad:
        nu = new["nu_max"] = jnp.maximum(s.nu_max, nu)
    # η·k₁ first, as torch: see `adamw`.
    step = adam_direction(mu, nu, h.eps, h.learning_rate * h.k1, h.k2)
    if not h.decoupled:
        return -step, new
    p_new = p * (1 - h.learning_rate * h.weight_decay) - step
    return p_new - p, new


@configured("jopt.", SPEC.torch_names)
def adam(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    amsgrad: bool = False,
    decoupled: bool = False,
    maximize: bool = False,
    **common: Unpack[Common],
) -> Transform:
    """Adam, as `torch.optim.Adam`.

    With η the learning rate, λ the weight decay and t the step from 1:

        g ← g + λ·p  unless decoupled
        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← μ / (1 − β₁ᵗ) / (√ν / √(1 − β₂ᵗ) + ε)
        p ← p − η·d;  p·(1 − η·λ) − η·d if decoupled

    With amsgrad the running maximum of ν, before bias correction, stands for ν in d.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `weight_decay`: λ ≥ 0, added to the gradient unless `decoupled`.
    - `amsgrad`: keep the maximum; one more slot, `nu_max`.
    - `decoupled`: decay as `adamw` does, torch's `decoupled_weight_decay`.
    - `maximize`: ascend: the gradient changes sign before the decay is added.
    - `**common`: `groups`, `state_dtype` and `kernel`, see `jopt.Common`.

    **State:** `mu` and `nu` (and `nu_max`) like the parameters, in at least float32, and the
    step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Kingma and Ba, 2015, algorithm 1; Reddi, Kale and Kumar, 2018, for amsgrad, whose
    maximum torch takes before the bias correction.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adam(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
    return leafwise(
        SPEC,
        rule,
        prepare=prepare,
        options={"amsgrad": amsgrad, "decoupled": decoupled, "maximize": maximize},
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        **common,
    )
