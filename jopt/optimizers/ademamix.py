"""AdEMAMix: AdamW with a second, very long momentum."""

from __future__ import annotations

from typing import Any, Unpack

from jopt.core import Decoupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, RATE, SQUARES
from jopt.numerics import Ratio, adam_corrections, adam_moments, lerp, safe_sqrt

SPEC = Spec(
    name="ademamix",
    hypers=(RATE, B1, B2, Hyper("b3", "[0, 1)"), Hyper("alpha", "[0, inf)"), EPS, EPS_ROOT, DECAY),
    slots=(MU, Slot("mu_slow"), SQUARES),
    gives="direction",
    decay="step",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bias corrections."""
    return adam_corrections(h.b1, h.b2, h.t)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `ademamix`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    slow = lerp(s.mu_slow, g, 1 - h.b3)
    square = nu * h.k2 * h.k2
    under = safe_sqrt(square if h.eps_root is None else square + h.eps_root) + h.eps
    return Ratio(h.k1 * mu + h.alpha * slow, under), {"mu": mu, "mu_slow": slow, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def ademamix(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    b3: Value = 0.9999,
    alpha: Value = 5.0,
    eps: Value = 1e-8,
    eps_root: Value = False,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> None:
    """AdEMAMix: AdamW that also remembers the gradients of many thousands of steps.

    With η the learning rate, λ the weight decay, ε′ `eps_root` and t the step from 1:

        μ ← μ + (1 − β₁)·(g − μ)
        σ ← σ + (1 − β₃)·(g − σ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← (μ / (1 − β₁ᵗ) + α·σ) / (√(ν / (1 − β₂ᵗ) + ε′) + ε)
        p ← p·(1 − η·λ) − η·d

    σ has no bias correction: it fills slowly. In the beginning a long memory can do harm, and the
    authors let α grow from 0, and β₃ from β₁, over the whole run: give schedules.

    **Arguments** (defaults are optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `b3`: β₃ in [0, 1), of the long memory.
    - `alpha`: α ≥ 0, its weight; 4 to 10 in the paper.
    - `eps`: ε ≥ 0, outside the root.
    - `eps_root`: ε′ ≥ 0, inside. 0 takes it out of the state.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **State:** `mu`, `mu_slow`, σ, and `nu` like the parameters, in at least float32, and the step
    count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Pagliardini, Ablin and Grangier, 2024, algorithm 1.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.ademamix(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 3)
    0.9
    """
