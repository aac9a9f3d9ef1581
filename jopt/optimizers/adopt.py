"""ADOPT: Adam that converges with any β₂."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Spec, Value, optimizer
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE, SQUARES
from jopt.numerics import lerp, safe_sqrt

SPEC = Spec(
    name="adopt",
    hypers=(RATE, B1, B2, EPS, DECAY),
    slots=(MU, SQUARES),
    options={"nesterov": None, "use_clipping": None},
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The bound of this step."""
    return {"bound": (h.t - 1) ** 0.25}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adopt`."""
    first = h.t == 1
    u = g / jnp.where(first, 1, jnp.maximum(safe_sqrt(s.nu), h.eps))
    if h.use_clipping:
        u = jnp.clip(u, -h.bound, h.bound)
    mu = jnp.where(first, s.mu, lerp(s.mu, u, 1 - h.b1))
    d = jnp.where(first, mu, lerp(mu, u, 1 - h.b1)) if h.nesterov else mu
    square = jnp.square(g)
    nu = jnp.where(first, square, h.b2 * s.nu + (1 - h.b2) * square)
    return d, {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, prepare=prepare)
def adopt(
    learning_rate: Value = 1e-3,
    b1: Value = 0.9,
    b2: Value = 0.9999,
    eps: Value = 1e-6,
    *,
    weight_decay: Value = 0.0,
    nesterov: bool = False,
    use_clipping: bool = True,
    **common: Unpack[Coupled],
) -> None:
    """ADOPT: the gradient over the second moment of those before it, and momentum after that.

    With η the learning rate, λ the weight decay and t the step from 1:

        g ← g + λ·p
        u ← g / max(√ν, ε)
        u ← min(max(u, −c), c)  with c = (t − 1)^¼
        μ ← β₁·μ + (1 − β₁)·u
        ν ← β₂·ν + (1 − β₂)·g²
        p ← p − η·μ;  p − η·(β₁·μ + (1 − β₁)·u) with nesterov

    The first step only sets ν ← g².

    **Arguments** (defaults are those of the authors' code):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, the least that √ν counts as.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled); `decoupled=True` is the authors'
      `ADOPTW`.
    - `nesterov`: look ahead along the momentum; optax's.
    - `use_clipping`: bound u. The paper's first version did not, and can take a step that is far
      too long where ν was small.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `mu` and `nu` like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range.

    Source: Taniguchi et al., 2024, algorithm 2 with the clipping of its second version.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.adopt(0.1), {"w": jnp.float32(1.0)}
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update({"w": jnp.float32(2.0)}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> round(float(params['w']), 4)
    0.99
    """
