"""Adan: Nesterov momentum from differences of gradients."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, RATE, SQUARES
from jopt.numerics import Ratio, debias, in_place, lerp, safe_sqrt

SPEC = Spec(
    name="adan",
    hypers=(RATE, B1, B2, Hyper("b3", "[0, 1)"), EPS, EPS_ROOT, DECAY),
    # What is stored in few bits has no difference to speak of.
    slots=(MU, Slot("delta"), SQUARES, Slot("prev_grad", compress=False)),
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections of the three means."""
    k1, k2, k3 = (1 / debias(b, h.t) for b in (h.b1, h.b2, h.b3))
    return {"k1": k1, "k2": k2, "k3": k3}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adan`."""
    change = jnp.where(h.t == 1, 0, g - s.prev_grad)
    mu, delta = lerp(s.mu, g, 1 - h.b1), lerp(s.delta, change, 1 - h.b2)
    nu = h.b3 * s.nu + (1 - h.b3) * jnp.square(g + h.b2 * change)
    square = h.k3 * nu if h.eps_root is None else h.k3 * nu + h.eps_root
    d = Ratio(h.k1 * mu + h.b2 * h.k2 * delta, safe_sqrt(square) + h.eps)
    last = in_place(g, s.prev_grad, h.t > 0)
    return d, {"mu": mu, "delta": delta, "nu": nu, "prev_grad": last}


@optimizer(SPEC, rule, prepare=prepare)
def adan(
    learning_rate: Value = 1e-3,
    b1: Value = 0.98,
    b2: Value = 0.92,
    b3: Value = 0.99,
    eps: Value = 1e-8,
    eps_root: Value = False,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """Adan: the gradient ahead, estimated from how gradients change, in place of Nesterov's.

    With η the learning rate, λ the weight decay, g₋ the gradient of the step before (g itself at
    the first) and t the step from 1:

        μ ← β₁·μ + (1 − β₁)·g
        δ ← β₂·δ + (1 − β₂)·(g − g₋)
        ν ← β₃·ν + (1 − β₃)·(g + β₂·(g − g₋))²
        d ← (μ / (1 − β₁ᵗ) + β₂·δ / (1 − β₂ᵗ)) / (√(ν / (1 − β₃ᵗ) + ε′) + ε)
        p ← p·(1 − η·λ) − η·d

    **Arguments** (defaults are those of the authors' code):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`, `b3`: β₁, β₂ and β₃ in [0, 1): how much of a mean stays. The paper's own are one
      less these: 0.02, 0.08 and 0.01.
    - `eps`: ε ≥ 0, outside the root.
    - `eps_root`: ε′ ≥ 0, inside. 0, as in the paper, takes it out of the state; `optax.adan` has
      10⁻⁸, which acts as an ε of 10⁻⁴.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu`, `delta`, `nu` and `prev_grad` like the parameters, in at least float32, and
    the step count. `prev_grad` is never compressed.

    **Raises:** `ConfigError` for a number out of range.

    Source: Xie, Zhou, Li, Lin and Yan, 2022, algorithm 1, with the bias corrections of the
    authors' code. Where the change of the gradient enters ν and d, its factor is the paper's
    1 − β₂ for the paper's β₂ of 0.08. optax takes 1 − β₂ with a β₂ of 0.92, 0.08 where 0.92 is
    meant, and so hardly looks ahead; jopt, as the authors' code, does not. The decay is that of
    AdamW, the authors' `no_prox`, where the paper divides by 1 + η·λ.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adan(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
