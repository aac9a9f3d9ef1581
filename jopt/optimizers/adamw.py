"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Unpack

from jopt.core import Decoupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, NU, NU_MAX, RATE
from jopt.numerics import adam_prepare, adam_rule

SPEC = Spec(
    name="adamw",
    torch="AdamW",
    hypers=(RATE, B1, B2, EPS, EPS_ROOT, DECAY),
    slots=(MU, NU, NU_MAX),
    options={"amsgrad": "amsgrad", "nesterov": None, "maximize": "maximize"},
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


@optimizer(SPEC, adam_rule, prepare=adam_prepare)
def adamw(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 1e-2,
    amsgrad: bool = False,
    eps_root: Value = False,
    nesterov: bool = False,
    **common: Unpack[Decoupled],
) -> None:
    """Adam with decoupled weight decay, as `torch.optim.AdamW`.

    With η the learning rate, λ the weight decay and t the step from 1:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← μ / (1 − β₁ᵗ) / (√ν / √(1 − β₂ᵗ) + ε)
        p ← p·(1 − η·λ) − η·d

    With amsgrad the running maximum of ν, before bias correction, stands for ν in d; with
    nesterov β₁·μ / (1 − β₁ᵗ⁺¹) + (1 − β₁)·g / (1 − β₁ᵗ) for μ / (1 − β₁ᵗ), and with ε′
    `eps_root` √(ν / (1 − β₂ᵗ) + ε′) for the root.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `weight_decay`: λ ≥ 0. It multiplies η, so a schedule for η also drives the decay.
    - `amsgrad`: keep the maximum; one more slot, `nu_max`.
    - `eps_root`: ε′ ≥ 0, under the root, as optax has it. 0 takes it out of the state.
    - `nesterov`: look ahead along the mean, as NAdam by Dozat, 2016, and optax's.
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
