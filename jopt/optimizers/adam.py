"""Adam."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, NU, NU_MAX, RATE
from jopt.numerics import adam_corrections, adam_direction, adam_moments

SPEC = Spec(
    name="adam",
    torch="Adam",
    hypers=(RATE, B1, B2, EPS, DECAY),
    slots=(MU, NU, NU_MAX),
    options={
        "amsgrad": "amsgrad",
        "maximize": "maximize",
        "decoupled": "decoupled_weight_decay",
    },
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections."""
    return adam_corrections(h.b1, h.b2, h.t)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adam`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    new = {"mu": mu, "nu": nu}
    if h.amsgrad:
        nu = new["nu_max"] = jnp.maximum(s.nu_max, nu)
    return adam_direction(mu, nu, h.eps, h.k1, h.k2), new


@optimizer(SPEC, rule, prepare=prepare)
def adam(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    amsgrad: bool = False,
    **common: Unpack[Coupled],
) -> None:
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
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

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
