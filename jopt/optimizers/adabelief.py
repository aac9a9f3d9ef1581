"""AdaBelief: Adam whose second moment is of what the gradient surprises by."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, RATE, SQUARES
from jopt.numerics import adam_ahead, adam_corrections, adam_direction, debias, lerp

SPEC = Spec(
    name="adabelief",
    hypers=(RATE, B1, B2, EPS, EPS_ROOT, DECAY),
    slots=(MU, SQUARES),
    options={"nesterov": None},
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections, that of the next step too."""
    return adam_corrections(h.b1, h.b2, h.t) | {"k1_next": 1 / debias(h.b1, h.t + 1)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adabelief`."""
    mu = lerp(s.mu, g, 1 - h.b1)
    nu = h.b2 * s.nu + (1 - h.b2) * jnp.square(g - mu)
    if h.eps_root is not None:
        nu = nu + h.eps_root
    new = {"mu": mu, "nu": nu}
    if not h.nesterov:
        return adam_direction(mu, nu, h.eps, h.k1, h.k2), new
    ahead = adam_ahead(g, mu, h.b1, h.k1, h.k1_next)
    return adam_direction(ahead, nu, h.eps, jnp.ones_like(h.k1), h.k2), new


@optimizer(SPEC, rule, prepare=prepare)
def adabelief(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-16,
    eps_root: Value = 1e-16,
    *,
    weight_decay: Value = 0.0,
    nesterov: bool = False,
    **common: Unpack[Decoupled],
) -> None:
    """AdaBelief: long steps where the gradient is as its mean foretold, short ones elsewhere.

    With η the learning rate, λ the weight decay, ε′ `eps_root` and t the step from 1:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·(g − μ)² + ε′
        m ← μ / (1 − β₁ᵗ);  β₁·μ / (1 − β₁ᵗ⁺¹) + (1 − β₁)·g / (1 − β₁ᵗ) with nesterov
        d ← m / (√ν / √(1 − β₂ᵗ) + ε)
        p ← p·(1 − η·λ) − η·d

    ε′ is in ν itself and adds up over steps, to ε′ / (1 − β₂) in the end.

    **Arguments** (defaults are the paper's and optax's; both of its ε are 10⁻¹⁶):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `eps_root`: ε′ ≥ 0. 0 takes it out of the state.
    - `weight_decay`: λ ≥ 0, decoupled as in the authors' own code.
    - `nesterov`: look ahead along the mean, as NAdam by Dozat, 2016.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Zhuang et al., 2020, algorithm 2.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adabelief(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8889
    """
