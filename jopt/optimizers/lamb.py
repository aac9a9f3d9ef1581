"""LAMB: Adam whose steps are as long as the parameter says."""

from __future__ import annotations

from typing import Any, Unpack

from jopt.core import Decaying, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, NU, RATE
from jopt.numerics import adam_corrections, adam_direction, adam_moments, trusted

SPEC = Spec(
    name="lamb",
    hypers=(RATE, B1, B2, EPS, EPS_ROOT, DECAY),
    slots=(MU, NU),
    gives="direction",
    decay="rule",
    counts=True,
    reduces=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections."""
    return adam_corrections(h.b1, h.b2, h.t)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `lamb`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    d = adam_direction(mu, nu, h.eps, h.k1, h.k2, h.eps_root).value + h.weight_decay * p
    return trusted(d, p, d), {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def lamb(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-6,
    eps_root: Value = False,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decaying],
) -> None:
    """LAMB: Adam for very large batches; each parameter moves by η times its own norm.

    With η the learning rate, λ the weight decay, ε′ `eps_root` and t the step from 1:

        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← μ / (1 − β₁ᵗ) / (√(ν / (1 − β₂ᵗ) + ε′) + ε) + λ·p
        p ← p − η·‖p‖ / ‖d‖·d

    Where ‖p‖ or ‖d‖ is 0, d is taken as it is. The norms are of a
    leaf, or of each tensor of one by `axes`.

    **Arguments** (defaults are optax's; η is Adam's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `eps_root`: ε′ ≥ 0. 0 takes it out of the state.
    - `weight_decay`: λ ≥ 0, inside the norm of d. With `decoupled` it is outside, or in g.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decaying`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: You et al., 2020, algorithm 2, with φ(x) = x. Norms are right wherever those of the
    numbers are, also where their squares are out of range.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.lamb(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
