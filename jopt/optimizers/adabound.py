"""AdaBound: Adam whose step sizes are bounded, ever closer, until it is SGD."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, NU, RATE
from jopt.numerics import adam_moments, debias, safe_sqrt

SPEC = Spec(
    name="adabound",
    hypers=(
        RATE,
        B1,
        B2,
        EPS,
        Hyper("final_learning_rate", "[0, inf)"),
        Hyper("gamma", "(0, 1)"),
        DECAY,
    ),
    slots=(MU, NU, Slot("nu_max", signed=False, when=lambda on: on["amsbound"])),
    options={"amsbound": None},
    gives="step",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """Adam's step size with both biases undone, and what bounds the step size of an entry."""
    last, passed = h.final_learning_rate, h.gamma * h.t
    return {
        "size": h.learning_rate * jnp.sqrt(debias(h.b2, h.t)) / debias(h.b1, h.t),
        "least": last * (passed / (passed + 1)),
        "most": last * (1 + 1 / passed),
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adabound`."""
    mu, nu = adam_moments(g, s.mu, s.nu, h.b1, h.b2)
    new = {"mu": mu, "nu": nu}
    if h.amsbound:
        nu = new["nu_max"] = jnp.maximum(s.nu_max, nu)
    under = safe_sqrt(nu) + h.eps
    size = jnp.where(under > 0, h.size / jnp.where(under > 0, under, 1), h.most)
    return jnp.clip(size, h.least, h.most) * mu, new


@optimizer(SPEC, rule, prepare=prepare)
def adabound(
    learning_rate: Value = 1e-3,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    final_learning_rate: Value = 0.1,
    gamma: Value = 1e-3,
    weight_decay: Value = 0.0,
    amsbound: bool = False,
    **common: Unpack[Coupled],
) -> None:
    """AdaBound: it begins as Adam with learning rate η, and ends as momentum SGD with another.

    With η the learning rate, η* the final one, λ the weight decay and t the step from 1:

        g ← g + λ·p  unless decoupled
        μ ← β₁·μ + (1 − β₁)·g
        ν ← β₂·ν + (1 − β₂)·g²
        a ← η·√(1 − β₂ᵗ) / (1 − β₁ᵗ) / (√ν + ε)
        a ← a between η*·(1 − 1 / (γ·t + 1)) and η*·(1 + 1 / (γ·t))
        p ← p − a·μ

    With amsbound, which is AMSBound, the running maximum of ν stands for ν.

    **Arguments** (defaults are the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added before the bias correction, unlike Adam's.
    - `final_learning_rate`: η* ≥ 0, SGD's, a number or a schedule. A schedule of η does not move
      it, as a scheduler does in the authors' code: give both a schedule of one shape.
    - `gamma`: γ in (0, 1): how fast the bounds close, after about 1 / γ steps.
    - `weight_decay`: λ ≥ 0, added to the gradient unless `decoupled`.
    - `amsbound`: keep the maximum; one more slot, `nu_max`.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `mu` and `nu` (and `nu_max`) like the parameters, in at least float32, and the step
    count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Luo, Xiong, Liu and Sun, 2019, "Adaptive gradient methods with dynamic bound of learning
    rate", algorithms 2 and 3, as the authors' code has them: with bias correction, and without the
    paper's 1 / √t.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adabound(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
