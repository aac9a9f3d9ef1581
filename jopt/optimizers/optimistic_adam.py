"""Optimistic Adam: Adam for games."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, RATE, SQUARES
from jopt.numerics import adam_corrections, adam_moments, debias, in_place, safe_sqrt

SPEC = Spec(
    name="optimistic_adam",
    hypers=(RATE, Hyper("alpha"), Hyper("beta"), B1, B2, EPS, EPS_ROOT, DECAY),
    # What is stored in few bits has no difference to speak of.
    slots=(MU, SQUARES, Slot("previous", compress=False)),
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
    """See `optimistic_adam`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    m = h.b1 * h.k1_next * mu + (1 - h.b1) * h.k1 * g if h.nesterov else h.k1 * mu
    square = nu * h.k2 * h.k2
    r = m / (safe_sqrt(square if h.eps_root is None else square + h.eps_root) + h.eps)
    change = jnp.where(h.t == 1, 0, r - s.previous)
    previous = in_place(r, s.previous, h.t > 0)
    return h.alpha * r + h.beta * change, {"mu": mu, "nu": nu, "previous": previous}


@optimizer(SPEC, rule, prepare=prepare)
def optimistic_adam(
    learning_rate: Value = 1e-3,
    *,
    alpha: Value = 1.0,
    beta: Value = 1.0,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    eps_root: Value = False,
    weight_decay: Value = 0.0,
    nesterov: bool = True,
    **common: Unpack[Decoupled],
) -> None:
    """Optimistic Adam: Adam's step, and what it has changed by since the last one once more.

    With η the learning rate, λ the weight decay, ε′ `eps_root`, r₋ what r was the step before (r
    itself at the first) and t the step from 1:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        m ← μ / (1 − β₁ᵗ);  β₁·μ / (1 − β₁ᵗ⁺¹) + (1 − β₁)·g / (1 − β₁ᵗ) with nesterov
        r ← m / (√(ν / (1 − β₂ᵗ) + ε′) + ε)
        p ← p·(1 − η·λ) − η·(α·r + β·(r − r₋))

    **Arguments** (defaults are those of `optax.optimistic_adam_v2`; η is Adam's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `alpha`: α, any number.
    - `beta`: β, any number: how far to look ahead. The `optimism` o of optax's first version is
      β = o / η.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, outside the root.
    - `eps_root`: ε′ ≥ 0, inside. 0 takes it out of the state.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `nesterov`: look ahead along the momentum, too; optax's. The paper's rule is without.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu`, `nu` and `previous`, r₋, like the parameters, in at least float32, and the
    step count. `previous` is never compressed.

    **Raises:** `ConfigError` for a number out of range.

    Source: Daskalakis, Ilyas, Syrgkanis and Zeng, 2018, algorithm 1, where η multiplies both.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.optimistic_adam(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8526
    """


optimistic_adam_v2 = optimistic_adam
"""Optax's name, which has another rule under the plain one."""
