"""Prodigy: Adam that finds its own learning rate."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Decaying, Hyper, Number, Slot, Spec, Value, for_each, optimizer, treewise
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE, SQUARES
from jopt.numerics import L1, Dot, cast, debias, longer, safe_sqrt, together

B3 = Hyper("b3", "[0, 1)", optional=True)
START = Hyper("estim_lr0", "(0, inf)", scheduled=False)
SPEC = Spec(
    name="prodigy",
    hypers=(RATE, B1, B2, B3, EPS, START, Hyper("estim_lr_coef", "[0, inf)"), DECAY),
    slots=(
        MU,
        SQUARES,
        Slot("grad_sum"),
        # The distance to it is a small difference.
        Slot("start", init=lambda p: p, compress=False),
        Slot("distance", init="estim_lr0", scope="group"),
        Slot("numerator", scope="group"),
        Slot("steps", scope="group", dtype="int32"),
    ),
    options={"safeguard_warmup": None, "bias_correction": None},
    gives="step",
    decay="rule",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `prodigy`."""
    steps, d = s.steps + 1, cast(s.distance, h.eps.dtype)
    t, scale = cast(steps, d.dtype), d / h.estim_lr0
    bias = jnp.sqrt(debias(h.b2, t)) / debias(h.b1, t) if h.bias_correction else 1
    b3 = jnp.sqrt(h.b2) if h.b3 is None else h.b3
    rate = d * h.learning_rate * bias
    weight = scale * (d if h.safeguard_warmup else rate)

    back = [x0 - x for x0, x in zip(s.start, p, strict=True)]
    kept, summed = for_each({"b3": b3, "weight": weight}, g)

    def added(n: Any, g: Any, total: Any) -> Any:
        return n.b3 * total + n.weight * g

    moved, length = together(Dot(g, back), L1([*map(added, summed, g, s.grad_sum)]))
    numerator = b3 * cast(s.numerator, d.dtype) + scale * rate * cast(moved, d.dtype)
    new_d = longer(d, h.estim_lr_coef * numerator, cast(length, d.dtype))

    def leaf(g: Any, mu: Any, nu: Any, p: Any) -> tuple[Any, Any, Any]:
        numbers = (h.b1, h.b2, d, rate, new_d * h.eps, h.weight_decay)
        b1, b2, by, step, eps, decay = (cast(jnp.asarray(x), g.dtype) for x in numbers)
        mu, nu = b1 * mu + (1 - b1) * (by * g), b2 * nu + (1 - b2) * jnp.square(by * g)
        return step * (mu / (safe_sqrt(nu) + eps) + decay * p), mu, nu

    step, mu, nu = map(list, zip(*map(leaf, g, s.mu, s.nu, p), strict=True))
    leaves = {"mu": mu, "nu": nu, "start": s.start}
    leaves |= {"grad_sum": [*map(added, kept, g, s.grad_sum)]}
    return step, leaves | {"distance": new_d, "numerator": numerator, "steps": steps}


@optimizer(SPEC, rule, door=treewise)
def prodigy(
    learning_rate: Value = 1.0,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    b3: Value | None = None,
    eps: Value = 1e-8,
    estim_lr0: Number = 1e-6,
    estim_lr_coef: Value = 1.0,
    weight_decay: Value = 0.0,
    safeguard_warmup: bool = False,
    bias_correction: bool = True,
    **common: Unpack[Decaying],
) -> None:
    """Prodigy: Adam whose learning rate is an estimate of how far away the solution is.

    With η the learning rate, λ the weight decay, d the estimate, d₀ where it starts, x₀ the
    parameters at the start, all of them as one vector, and t the step from 1:

        r ← d·η·√(1 − β₂ᵗ) / (1 − β₁ᵗ);  d·η without bias correction
        n ← β₃·n + d / d₀·r·⟨g, x₀ − p⟩
        σ ← β₃·σ + d / d₀·r·g;  d in place of r with the safeguard
        μ ← β₁·μ + (1 − β₁)·d·g
        ν ← β₂·ν + (1 − β₂)·(d·g)²
        d ← max(d, κ·n / ‖σ‖₁)
        p ← p − r·(μ / (√ν + d·ε) + λ·p)

    η stays at 1, and a schedule only gives the shape: cosine to 0 is what the authors use.

    **Arguments** (defaults are optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule, relative to the estimate.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `b3`: β₃ in [0, 1), of the estimate. `None` takes √β₂ and stays out of the state.
    - `eps`: ε ≥ 0.
    - `estim_lr0`: d₀ > 0, the authors' `d0`. A number, read when the state is made.
    - `estim_lr_coef`: κ ≥ 0, the authors' `d_coef`: larger makes longer steps.
    - `weight_decay`: λ ≥ 0, times r. With `decoupled` it is times η alone, or in g.
    - `safeguard_warmup`: leave η out of σ, so that a long warm-up does not spoil the estimate.
    - `bias_correction`: optax's. The paper has none, nor do the authors by default.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decaying`.

      Each group has an estimate of its own.

    **State:** `mu`, `nu` and `grad_sum` like the parameters, in at least float32; `start`, the
    parameters at the start, never compressed; and `distance`, `numerator` and `steps`, a number
    each for a group.

    **Raises:** `ConfigError` for a number out of range, or a schedule for `estim_lr0`.

    Source: Mishchenko and Defazio, 2023, algorithm 4. While ‖σ‖₁ is 0, as with gradients that
    are 0 or with η = 0, d stays, where optax divides 0 by 0 and then all is NaN.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.prodigy(), {"w": jnp.float32(1.0)}
    >>> state = tx.init(params)
    >>> for _ in range(200):
    ...     updates, state = tx.update({"w": 2 * params["w"]}, state, params)
    ...     params = jopt.apply_updates(params, updates)
    >>> bool(abs(params["w"]) < 0.1)
    True
    """
