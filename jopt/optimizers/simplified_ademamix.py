"""Simplified AdEMAMix: one sum of gradients in place of two means."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, RATE, SQUARES
from jopt.numerics import Ratio, debias, safe_sqrt

SPEC = Spec(
    name="simplified_ademamix",
    hypers=(RATE, B1, B2, Hyper("alpha", "[0, inf)"), EPS, EPS_ROOT, DECAY),
    slots=(MU, SQUARES),
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias correction of the squares."""
    return {"k2": 1 / jnp.sqrt(debias(h.b2, h.t))}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `simplified_ademamix`."""
    mu, nu = h.b1 * s.mu + g, h.b2 * s.nu + (1 - h.b2) * jnp.square(g)
    square = nu * h.k2 * h.k2
    under = safe_sqrt(square if h.eps_root is None else square + h.eps_root) + h.eps
    return Ratio(mu + h.alpha * g, under), {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def simplified_ademamix(
    learning_rate: Value = 1e-4,
    b1: Value = 0.99,
    b2: Value = 0.95,
    alpha: Value = 0.0,
    eps: Value = 1e-8,
    eps_root: Value = False,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """Simplified AdEMAMix: Adam along a long sum of gradients and the last one.

    With η the learning rate, λ the weight decay, ε′ `eps_root` and t the step from 1:

        μ ← β₁·μ + g
        ν ← β₂·ν + (1 − β₂)·g²
        d ← (μ + α·g) / (√(ν / (1 − β₂ᵗ) + ε′) + ε)
        p ← p·(1 − η·λ) − η·d

    μ is a sum, up to 1 / (1 − β₁) times a mean, so η wants to be as much smaller than Adam's.

    **Arguments** (defaults are optax's; η is a tenth of Adam's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `alpha`: α ≥ 0, the weight of the last gradient.
    - `eps`: ε ≥ 0, outside the root.
    - `eps_root`: ε′ ≥ 0, inside. 0 takes it out of the state.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Morwani, Vyas, Zhang and Kakade, 2025, the simplified rule.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.simplified_ademamix(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
