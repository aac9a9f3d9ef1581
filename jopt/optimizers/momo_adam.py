"""MoMo-Adam: Adam whose step size the loss gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Number, Spec, Steps, Value, for_each, optimizer, treewise, written
from jopt.core.vocabulary import B1, B2, BOUND, DECAY, EPS, MODEL, MU, RATE, SQUARES
from jopt.numerics import Dot, above, cast, debias, modelled, safe_sqrt, together

SPEC = Spec(
    name="momo_adam",
    hypers=(RATE, B1, B2, EPS, BOUND, DECAY),
    slots=(MU, SQUARES, *MODEL),
    options={"adapt_lower_bound": None},
    extra=("value",),
    gives="step",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `momo_adam`."""
    steps, dtype = s.steps + 1, h.b1.dtype
    t = cast(steps, dtype)
    k1, k2 = debias(h.b1, t), jnp.sqrt(debias(h.b2, t))

    numbers = {"b1": h.b1, "b2": h.b2, "eps": h.eps, "root": 1 / k2}
    kept, summed = for_each(numbers | {"more1": 1 - h.b1, "more2": 1 - h.b2}, g)

    def moments(n: Any, g: Any, mu: Any, nu: Any) -> tuple[Any, Any]:
        return n.b1 * mu + n.more1 * g, n.b2 * nu + n.more2 * jnp.square(g)

    def direction(n: Any, mu: Any, nu: Any) -> Any:
        return mu / (safe_sqrt(nu) * n.root + n.eps)

    mu, nu = map(list, zip(*map(moments, summed, g, s.mu, s.nu), strict=True))
    met, along, square = together(Dot(g, p), Dot(mu, p), Dot(mu, [*map(direction, summed, mu, nu)]))
    value, dot, model = modelled(h.b1, (s.mean_value, s.mean_dot), h.value, met, along)
    square = cast(square, dtype)
    none = square == 0

    decay = h.learning_rate * h.weight_decay
    grown, more = 1 + decay, decay * (value - dot)
    held = s.bound if h.adapt_lower_bound else None
    bound, gap = above(held, model + more, grown * k1, h.lower_bound)
    far = jnp.minimum(h.learning_rate / k1, gap / jnp.where(none, 1, square))
    far = jnp.where(none, 0, far)
    if h.adapt_lower_bound:
        bound = jnp.maximum((model - far * square / 2) / k1, h.lower_bound)

    mu, nu = map(list, zip(*map(moments, kept, g, s.mu, s.nu), strict=True))
    by, share = far / grown, decay / grown

    def leaf(mu: Any, nu: Any, x: Any) -> Any:
        n = SimpleNamespace(root=cast(1 / k2, x.dtype), eps=cast(h.eps, x.dtype))
        return cast(by, x.dtype) * direction(n, mu, nu) + cast(share, x.dtype) * x

    new = {"mean_value": value, "mean_dot": dot, "bound": bound, "steps": steps}
    return [*map(leaf, *written((mu, nu)), p)], new | {"mu": mu, "nu": nu}


@optimizer(SPEC, rule, door=treewise)
def momo_adam(
    learning_rate: Value = 1e-2,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-8,
    lower_bound: Number = 0.0,
    *,
    weight_decay: Value = 0.0,
    adapt_lower_bound: bool = False,
    **common: Unpack[Steps],
) -> None:
    """MoMo-Adam: Adam with a step as far as a model of the loss falls: `update(..., value=loss)`.

    With f the loss, η the learning rate, λ the weight decay, f* the lower bound, all parameters as
    one vector and t the step from 1:

        μ ← β₁·μ + (1 − β₁)·g
        ν ← β₂·ν + (1 − β₂)·g²
        d ← μ / (√(ν / (1 − β₂ᵗ)) + ε)
        φ ← β₁·φ + (1 − β₁)·f
        γ ← β₁·γ + (1 − β₁)·⟨g, p⟩
        h ← (1 + η·λ)·(φ − γ − (1 − β₁ᵗ)·f*) + ⟨μ, p⟩
        τ ← min(η / (1 − β₁ᵗ), max(h, 0) / ⟨μ, d⟩)
        p ← (p − τ·d) / (1 + η·λ)

    **Arguments** (defaults are optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule: the longest step.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0.
    - `lower_bound`: f*, any number: the least that the loss can be.
    - `weight_decay`: λ ≥ 0, by a proximal step, as the paper has it: the division.
    - `adapt_lower_bound`: estimate f* from what is seen, from `lower_bound` on, and never below.
    - `**common`: `maximize`, `groups`, `state_dtype` and what else every optimizer takes, see
      `jopt.Steps`.

      Each group has a step size of its own. With `maximize`, `value` is −f.

    **State:** `mu` and `nu` like the parameters, in at least float32; and `mean_value`, φ,
    `mean_dot`, γ, `bound`, f*, and `steps`, a number each for a group.

    **Raises:** `ConfigError` for a number out of range, or a schedule for `lower_bound`.

    Source: Schaipp, Ohana, Eickenberg, Defazio and Gower, 2023, algorithm 3, where τ·d is divided,
    too, as in the authors' `momo-opt`, but not in optax. That takes no step where ⟨μ, d⟩ is below
    2·10⁻¹⁶; here it is taken unless that is 0.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.momo_adam(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": 2 * params["w"]}, tx.init(params), params, value=1.0)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
