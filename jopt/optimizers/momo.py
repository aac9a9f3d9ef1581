"""MoMo: momentum whose step size the loss gives."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Hyper, Number, Spec, Steps, Value, optimizer, treewise
from jopt.core.vocabulary import BOUND, DECAY, MODEL, MU, RATE
from jopt.numerics import Dot, Norm, above, cast, modelled, together

SPEC = Spec(
    name="momo",
    hypers=(RATE, Hyper("beta", "[0, 1)"), BOUND, DECAY),
    slots=(MU, *MODEL),
    options={"adapt_lower_bound": None},
    extra=("value",),
    gives="step",
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `momo`."""
    steps = s.steps + 1
    beta = jnp.where(steps == 1, 0, h.beta)
    mu = [
        cast(beta, x.dtype) * m + cast(1 - beta, x.dtype) * x for x, m in zip(g, s.mu, strict=True)
    ]
    met, along, (factor, norm) = together(Dot(g, p), Dot(mu, p), Norm(mu))
    value, dot, model = modelled(beta, (s.mean_value, s.mean_dot), h.value, met, along)
    none = norm == 0
    norm = jnp.where(none, 1, norm)
    length = norm / factor

    decay = h.learning_rate * h.weight_decay
    grown, more = 1 + decay, decay * (value - dot)
    held = s.bound if h.adapt_lower_bound else None
    bound, gap = above(held, model + more, grown, h.lower_bound)
    # How far to go, along μ / ‖μ‖: ‖μ‖² may be out of range where this is not.
    far = jnp.where(none, 0, jnp.minimum(h.learning_rate * length, gap / length))
    if h.adapt_lower_bound:
        bound = jnp.maximum(model - far * length / 2, h.lower_bound)

    def leaf(m: Any, x: Any) -> Any:
        share, by, shrink = (cast(k, x.dtype) for k in (far / norm / grown, factor, decay / grown))
        return share * (by * m) + shrink * x

    new = {"mean_value": value, "mean_dot": dot, "bound": bound, "steps": steps}
    return [leaf(m, x) for m, x in zip(mu, p, strict=True)], new | {"mu": mu}


@optimizer(SPEC, rule, door=treewise)
def momo(
    learning_rate: Value = 1.0,
    beta: Value = 0.9,
    lower_bound: Number = 0.0,
    *,
    weight_decay: Value = 0.0,
    adapt_lower_bound: bool = False,
    **common: Unpack[Steps],
) -> None:
    """MoMo: momentum with a step as far as a model of the loss falls: `update(..., value=loss)`.

    With f the loss, η the learning rate, λ the weight decay, f* the lower bound and all parameters
    as one vector, and means that begin with what they are of:

        μ ← β·μ + (1 − β)·g
        φ ← β·φ + (1 − β)·f
        γ ← β·γ + (1 − β)·⟨g, p⟩
        τ ← min(η, max((1 + η·λ)·(φ − γ − f*) + ⟨μ, p⟩, 0) / ‖μ‖²)
        p ← (p − τ·μ) / (1 + η·λ)

    **Arguments** (defaults are optax's):

    - `learning_rate`: η ≥ 0, a number or a schedule: the longest step.
    - `beta`: β in [0, 1).
    - `lower_bound`: f*, any number: the least that the loss can be.
    - `weight_decay`: λ ≥ 0, by a proximal step, as the paper has it: the division.
    - `adapt_lower_bound`: estimate f* from what is seen, from `lower_bound` on, and never below.
    - `**common`: `maximize`, `groups`, `state_dtype` and what else every optimizer takes, see
      `jopt.Steps`.

      Each group has a step size of its own. With `maximize`, `value` is −f.

    **State:** `mu` like the parameters, in at least float32; and `mean_value`, φ, `mean_dot`, γ,
    `bound`, f*, and `steps`, a number each for a group.

    **Raises:** `ConfigError` for a number out of range, or a schedule for `lower_bound`.

    Source: Schaipp, Ohana, Eickenberg, Defazio and Gower, 2023, algorithms 1 and 2, which minimize
    the model with λ/2·‖p‖² in it: so τ·μ is divided, too, as in the authors' `momo-opt`, but not
    in optax. ‖μ‖ is right wherever the numbers are, also where its square is out of range; optax
    takes no step where it is below 2·10⁻¹⁶.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.momo()
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": 2 * params["w"]}, tx.init(params), params, value=1.0)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.5
    """
