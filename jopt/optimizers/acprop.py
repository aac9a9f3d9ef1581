"""ACProp: AdaBelief whose denominator is that of the step before."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, RATE, SQUARES
from jopt.numerics import Ratio, debias, lerp, safe_sqrt

SPEC = Spec(
    name="acprop",
    hypers=(RATE, B1, B2, EPS, EPS_ROOT, DECAY),
    slots=(MU, SQUARES),
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias correction of the step before; at the first there is none."""
    return {"k2": 1 / jnp.sqrt(debias(h.b2, jnp.maximum(h.t - 1, 1)))}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `acprop`."""
    under = jnp.where(h.t == 1, 1, h.k2 * safe_sqrt(s.nu)) + h.eps
    mu = lerp(s.mu, g, 1 - h.b1)
    nu = h.b2 * s.nu + (1 - h.b2) * jnp.square(g - mu)
    nu = nu if h.eps_root is None else nu + h.eps_root
    return Ratio(g, under), {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def acprop(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-16,
    eps_root: Value = 1e-16,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """ACProp: the gradient over what gradients surprised by, up to the step before.

    With η the learning rate, λ the weight decay, ε′ `eps_root` and t the step from 1:

        d ← g / (√(ν / (1 − β₂ᵗ⁻¹)) + ε);  g / (1 + ε) at the first step
        μ ← β₁·μ + (1 − β₁)·g
        ν ← β₂·ν + (1 − β₂)·(g − μ)² + ε′
        p ← p·(1 − η·λ) − η·d

    ε′ is in ν itself and adds up over steps, to ε′ / (1 − β₂) in the end.

    **Arguments** (defaults are optax's; η is AdaBelief's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, outside the root.
    - `eps_root`: ε′ ≥ 0, inside. 0 takes it out of the state.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Zhuang et al., 2021, algorithm 2, with Adam's bias correction, which is the authors'
    and optax's. ν is of g − μ with the new μ, as in the paper and in optax's formula; optax's
    code takes the old one, and so a ν larger by 1 / β₁².

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.acprop(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8
    """
