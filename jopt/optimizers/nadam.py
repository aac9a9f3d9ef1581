"""NAdam: Adam with Nesterov momentum."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, NU, RATE
from jopt.numerics import Ratio, adam_moments, adam_root, debias

SPEC = Spec(
    name="nadam",
    torch="NAdam",
    hypers=(
        RATE,
        B1,
        B2,
        EPS,
        EPS_ROOT,
        DECAY,
        Hyper("momentum_decay", "[0, inf)", torch="momentum_decay"),
    ),
    slots=(
        # One for each leaf: it depends on the momenta of every step that the leaf took part in.
        Slot("mu_product", shape="scalar", init=1.0, torch="mu_product", compress=False),
        MU,
        NU,
    ),
    options={"decoupled": "decoupled_weight_decay", "maximize": "maximize"},
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The momenta of this step and the next, and the bias correction of √ν."""

    def momentum(t: Any) -> Any:
        return h.b1 * (1 - 0.5 * jnp.power(0.96, t * h.momentum_decay))

    k2 = 1 / jnp.sqrt(debias(h.b2, h.t))
    return {"m": momentum(h.t), "m_next": momentum(h.t + 1), "k2": k2}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `nadam`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    product = s.mu_product * h.m
    of_g, of_mu = (1 - h.m) / (1 - product), h.m_next / (1 - product * h.m_next)
    d = Ratio(of_g * g + of_mu * mu, adam_root(nu, h.k2, h.eps_root) + h.eps)
    return d, {"mu_product": product, "mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def nadam(
    learning_rate: Value = 2e-3,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    momentum_decay: Value = 4e-3,
    eps_root: Value = False,
    **common: Unpack[Coupled],
) -> None:
    """NAdam, as `torch.optim.NAdam`: Adam that looks ahead along a warming momentum.

    With η the learning rate, λ the weight decay, ψ the momentum decay and t the step from 1:

        mₜ = β₁·(1 − ½·0.96^(t·ψ)),  Mₜ = m₁·m₂·…·mₜ
        g ← g + λ·p  unless decoupled
        μ ← μ + (1 − β₁)·(g − μ)
        ν ← β₂·ν + (1 − β₂)·g²
        d ← ((1 − mₜ) / (1 − Mₜ)·g + mₜ₊₁ / (1 − Mₜ·mₜ₊₁)·μ) / (√ν / √(1 − β₂ᵗ) + ε)
        p ← p − η·d;  p·(1 − η·λ) − η·d if decoupled

    With ε′ `eps_root` the root is √(ν / (1 − β₂ᵗ) + ε′).

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction.
    - `weight_decay`: λ ≥ 0, added to the gradient unless `decoupled`.
    - `momentum_decay`: ψ ≥ 0: how fast mₜ warms from β₁ / 2 to β₁. The 0.96 is Dozat's.
    - `eps_root`: ε′ ≥ 0, under the root, as optax has it. 0 takes it out of the state.
    - `decoupled`: decay as `adamw` does, torch's `decoupled_weight_decay`.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32; `mu_product`, the scalar
    Mₜ of each parameter; and the step count. M is kept, not recomputed: it has no closed form,
    and it remembers a schedule of β₁.

    **Raises:** `ConfigError` for a number out of range.

    Source: Dozat, 2016, algorithm 2; torch's μ mixes with β₁ where the paper has mₜ.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.nadam(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8944
    """
