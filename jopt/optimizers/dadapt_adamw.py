"""D-Adaptation: AdamW that finds its own learning rate."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decaying, Hyper, Number, Slot, Spec, Value, for_each, optimizer, treewise
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE, SQUARES
from jopt.numerics import L1, Dot, cast, debias, longer, safe_sqrt, together

START = Hyper("estim_lr0", "(0, inf)", scheduled=False)
SPEC = Spec(
    name="dadapt_adamw",
    hypers=(RATE, B1, B2, EPS, START, DECAY),
    slots=(
        MU,
        SQUARES,
        Slot("grad_sum"),
        Slot("distance", init="estim_lr0", scope="group"),
        Slot("numerator", scope="group"),
        Slot("steps", scope="group", dtype="int32"),
    ),
    gives="step",
    decay="rule",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `dadapt_adamw`."""
    steps, d = s.steps + 1, cast(s.distance, h.eps.dtype)
    t, b3 = cast(steps, d.dtype), jnp.sqrt(h.b2)
    rate = d * h.learning_rate * (jnp.sqrt(debias(h.b2, t)) / debias(h.b1, t))

    numbers = {"b1": h.b1, "b2": h.b2, "b3": b3, "eps": h.eps, "rate": rate}
    numbers |= {"more": (1 - b3) * rate, "decay": h.weight_decay}
    kept, summed = for_each(numbers, g)

    def added(n: Any, g: Any, total: Any) -> Any:
        return n.b3 * total + n.more * g

    def sought(n: Any, total: Any, nu: Any) -> Any:
        return total / (safe_sqrt(nu) + n.eps)

    def leaf(n: Any, g: Any, mu: Any, nu: Any, p: Any) -> tuple[Any, Any, Any]:
        mu, nu = n.b1 * mu + (1 - n.b1) * (n.rate * g), n.b2 * nu + (1 - n.b2) * jnp.square(g)
        return mu / (safe_sqrt(nu) + n.eps) + n.rate * n.decay * p, mu, nu

    met, total = together(
        Dot(g, [*map(sought, summed, s.grad_sum, s.nu)]), L1([*map(added, summed, g, s.grad_sum)])
    )
    numerator = b3 * cast(s.numerator, d.dtype) + (1 - b3) * rate * cast(met, d.dtype)
    new_d = longer(d, numerator, (1 - b3) * cast(total, d.dtype))

    step, mu, nu = map(list, zip(*map(leaf, kept, g, s.mu, s.nu, p), strict=True))
    leaves = {"mu": mu, "nu": nu, "grad_sum": [*map(added, kept, g, s.grad_sum)]}
    return step, leaves | {"distance": new_d, "numerator": numerator, "steps": steps}


@optimizer(SPEC, rule, door=treewise)
def dadapt_adamw(
    learning_rate: Value = 1.0,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    estim_lr0: Number = 1e-6,
    weight_decay: Value = 0.0,
    **common: Unpack[Decaying],
) -> None:
    """D-Adaptation for AdamW: its learning rate is a lower bound of the distance to the solution.

    With η the learning rate, λ the weight decay, d the estimate, all parameters as one vector,
    β₃ = √β₂ and t the step from 1:

        r ← d·η·√(1 − β₂ᵗ) / (1 − β₁ᵗ)
        n ← β₃·n + (1 − β₃)·r·⟨g, σ / (√ν + ε)⟩
        σ ← β₃·σ + (1 − β₃)·r·g
        μ ← β₁·μ + (1 − β₁)·r·g
        ν ← β₂·ν + (1 − β₂)·g²
        d ← max(d, n / ((1 − β₃)·‖σ‖₁))
        p ← p − μ / (√ν + ε) − r·λ·p

    η stays at 1, and a schedule only gives the shape. `jopt.prodigy` is its authors' later
    method, which finds the distance sooner.

    **Arguments** (defaults are optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule, relative to the estimate.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0.
    - `estim_lr0`: where d starts, > 0, the authors' `d0`. A number, read when the state is made.
    - `weight_decay`: λ ≥ 0, times r. With `decoupled` it is times η alone, or in g.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decaying`.

      Each group has an estimate of its own.

    **State:** `mu`, `nu` and `grad_sum`, σ, like the parameters, in at least float32; and
    `distance`, d, `numerator`, n, and `steps`, a number each for a group.

    **Raises:** `ConfigError` for a number out of range, or a schedule for `estim_lr0`.

    Source: Defazio and Mishchenko, 2023, algorithm 5, with the bias correction that is an option
    of the authors' code. While ‖σ‖₁ is 0, as with gradients that are 0 or with η = 0, d stays,
    where optax divides 0 by 0 and then all is NaN.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.dadapt_adamw(), {"w": jnp.float32(1.0)}
    >>> state = tx.init(params)
    >>> for _ in range(200):
    ...     updates, state = tx.update({"w": 2 * params["w"]}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> bool(abs(params["w"]) < 0.1)
    True
    """
