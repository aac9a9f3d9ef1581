"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, NU, NU_MAX, RATE
from jopt.numerics import adam_corrections, adam_direction, adam_moments

SPEC = Spec(
    name="adamw",
    torch="AdamW",
    hypers=(RATE, B1, B2, EPS, DECAY),
    slots=(MU, NU, NU_MAX),
    options={"amsgrad": "amsgrad", "maximize": "maximize"},
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections."""
    return adam_corrections(h.b1, h.b2, h.t)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adamw`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    new = {"mu": mu, "nu": nu}
    if h.amsgrad:
        nu = new["nu_max"] = jnp.maximum(s.nu_max, nu)
    return adam_direction(mu, nu, h.eps, h.k1, h.k2), new


@optimizer(SPEC, rule, prepare=prepare)
def adamw(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 1e-2,
    amsgrad: bool = False,
    **common: Unpack[Decoupled],
) -> None:
    """Adam with decoupled weight decay, as `torch.optim.AdamW`.

    With η the learning rate, λ the weight decay and t the step from 1:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← μ / (1 − β₁ᵗ) / (√ν / √(1 − β₂ᵗ) + ε)
        p ← p·(1 − η·λ) − η·d

    With amsgrad the running maximum of ν, before bias correction, stands for ν in d.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `weight_decay`: λ ≥ 0. It multiplies η, so a schedule for η also drives the decay.
    - `amsgrad`: keep the maximum; one more slot, `nu_max`.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu` and `nu` (and `nu_max`) like the parameters, in at least float32, and the
    step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Loshchilov and Hutter, 2019, algorithm 2, with torch's η·λ where the paper has λ
    alone; Reddi, Kale and Kumar, 2018, for amsgrad.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adamw(0.1, weight_decay=0.0)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
