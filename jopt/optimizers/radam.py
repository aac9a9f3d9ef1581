"""RAdam: Adam with a rectified step size."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, NU, RATE
from jopt.numerics import adam_moments, debias, rectification, safe_sqrt

SPEC = Spec(
    name="radam",
    torch="RAdam",
    hypers=(RATE, B1, B2, EPS, EPS_ROOT, DECAY),
    slots=(MU, NU),
    options={"decoupled": "decoupled_weight_decay", "maximize": "maximize"},
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """Whether ν is worth using yet, and what μ is multiplied by with and without it."""
    rectified, r = rectification(h.b2, h.t, 5)
    plain, seen = 1 / debias(h.b1, h.t), debias(h.b2, h.t)
    found = {"rectified": rectified, "plain": plain, "adaptive": plain * r * jnp.sqrt(seen)}
    return found if h.eps_root is None else {**found, "floor": h.eps_root * seen}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `radam`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    root = safe_sqrt(nu if h.eps_root is None else nu + h.floor)
    d = mu * jnp.where(h.rectified, h.adaptive / (root + h.eps), h.plain)
    return d, {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def radam(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    eps_root: Value = False,
    **common: Unpack[Coupled],
) -> None:
    """RAdam, as `torch.optim.RAdam`: Adam that rectifies its step while ν is young.

    With η the learning rate, λ the weight decay and t the step from 1:

        ρ∞ = 2 / (1 − β₂) − 1,  ρₜ = ρ∞ − 2t·β₂ᵗ / (1 − β₂ᵗ)
        rₜ = √((ρₜ − 4)·(ρₜ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρₜ))
        g ← g + λ·p  unless decoupled
        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← μ / (1 − β₁ᵗ) · rₜ·√(1 − β₂ᵗ) / (√ν + ε) if ρₜ > 5, else μ / (1 − β₁ᵗ)
        p ← p − η·d;  p·(1 − η·λ) − η·d if decoupled

    At β₂ = 0.999 the first five steps are plain momentum, whose size follows the gradient's.

    With ε′ `eps_root` the root is √(ν + ε′·(1 − β₂ᵗ)).

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1). Up to β₂ = ⅔, ρₜ never passes 5.
    - `eps`: ε ≥ 0, added before the bias correction, unlike Adam's.
    - `weight_decay`: λ ≥ 0, added to the gradient unless `decoupled`.
    - `eps_root`: ε′ ≥ 0, under the root of what is bias-corrected, as optax has it. 0 takes it out
      of the state.
    - `decoupled`: decay as `adamw` does, torch's `decoupled_weight_decay`.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Liu et al., 2020, algorithm 2, with torch's ε and threshold 5, where the paper has 4.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.radam(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8
    """
