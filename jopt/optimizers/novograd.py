"""NovoGrad: momentum of gradients that are divided by the norm of their layer."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decaying, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, EPS_ROOT, MU, RATE
from jopt.numerics import norm, safe_sqrt

SPEC = Spec(
    name="novograd",
    hypers=(RATE, B1, B2, EPS, EPS_ROOT, DECAY),
    slots=(MU, Slot("nu", shape="scalar", signed=False, compress=False)),
    gives="direction",
    decay="rule",
    counts=True,
    params_by=("weight_decay",),
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `novograd`."""
    # A square that is infinite would never be forgotten.
    square = jnp.square(jnp.minimum(norm(g), float(jnp.finfo(g.dtype).max) ** 0.49))
    nu = jnp.where(h.t == 1, square, h.b2 * s.nu + (1 - h.b2) * square)
    root = safe_sqrt(nu if h.eps_root is None else nu + h.eps_root)
    mu = h.b1 * s.mu + (g / (root + h.eps) + h.weight_decay * p)
    return mu, {"mu": mu, "nu": nu}


@optimizer(SPEC, rule)
def novograd(
    learning_rate: Value = 1e-2,
    b1: Value = 0.9,
    b2: Value = 0.25,
    eps: Value = 1e-6,
    eps_root: Value = False,
    *,
    weight_decay: Value = 0.0,
    **common: Unpack[Decaying],
) -> None:
    """NovoGrad: one second moment a parameter, of the norm of its gradient.

    With η the learning rate, λ the weight decay and ε′ `eps_root`:

        ν ← ‖g‖² at the first step, then β₂·ν + (1 − β₂)·‖g‖²
        μ ← β₁·μ + g / (√(ν + ε′) + ε) + λ·p
        p ← p − η·μ

    The norm is of a leaf, or of each tensor of one by `axes`. μ is a sum, not a mean: a steady
    gradient moves the parameter by up to η / (1 − β₁).

    **Arguments** (η is the paper's default, the others are optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1). The paper trains with 0.95 and 0.98, too.
    - `eps`: ε ≥ 0, outside the root. (`optax.scale_by_novograd` has 10⁻⁸.)
    - `eps_root`: ε′ ≥ 0, inside. 0 takes it out of the state.
    - `weight_decay`: λ ≥ 0, after the division, so that it enters the momentum. With `decoupled`
      it is in the step, or in g.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decaying`.

    **State:** `mu` like the parameters, in at least float32, `nu`, a number for each of them, and
    the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Ginsburg et al., 2019, algorithm 1. A norm whose square is out of range counts as one
    whose square is not.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.novograd(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
