"""Adam."""

from __future__ import annotations

from typing import Unpack

from jopt.core import Coupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, NU, NU_MAX, RATE
from jopt.numerics import adam_prepare, adam_rule

SPEC = Spec(
    name="adam",
    torch="Adam",
    hypers=(RATE, B1, B2, EPS, EPS_ROOT, DECAY),
    slots=(MU, NU, NU_MAX),
    options={
        "amsgrad": "amsgrad",
        "nesterov": None,
        "maximize": "maximize",
        "decoupled": "decoupled_weight_decay",
    },
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


@optimizer(SPEC, adam_rule, prepare=adam_prepare)
def adam(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    amsgrad: bool = False,
    eps_root: Value = False,
    nesterov: bool = False,
    **common: Unpack[Coupled],
) -> None:
    """Adam, as `torch.optim.Adam`.

    With η the learning rate, λ the weight decay and t the step from 1:

        g ← g + λ·p  unless decoupled
        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← μ / (1 − β₁ᵗ) / (√ν / √(1 − β₂ᵗ) + ε)
        p ← p − η·d;  p·(1 − η·λ) − η·d if decoupled

    With amsgrad the running maximum of ν, before bias correction, stands for ν in d; with
    nesterov β₁·μ / (1 − β₁ᵗ⁺¹) + (1 − β₁)·g / (1 − β₁ᵗ) for μ / (1 − β₁ᵗ), and with ε′
    `eps_root` √(ν / (1 − β₂ᵗ) + ε′) for the root.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `weight_decay`: λ ≥ 0, added to the gradient unless `decoupled`.
    - `amsgrad`: keep the maximum; one more slot, `nu_max`.
    - `eps_root`: ε′ ≥ 0, under the root, as optax has it. 0 takes it out of the state.
    - `nesterov`: look ahead along the mean, as NAdam by Dozat, 2016, and optax's.
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
