"""Sophia: momentum over an estimate of the Hessian's diagonal, clipped entry by entry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Unpack

import jax.numpy as jnp

from jopt.core import Decoupled, Hyper, Number, Slot, Spec, Value, optimizer
from jopt.core.checks import check_count
from jopt.core.curvature import NEEDS, CurvaturePart, check_batch_size, check_estimator, curved
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE
from jopt.numerics import debias
from jopt.transforms.noise import KEY, MOST_SEED, check_seed

Estimator = Literal["hutchinson", "gauss_newton_bartlett", "given"]
"""What the diagonal of the Hessian is estimated from, see `jopt.sophia`."""

SPEC = Spec(
    name="sophia",
    hypers=(
        RATE,
        B1,
        B2,
        EPS,
        Hyper("gamma", "(0, inf)"),
        Hyper("clip_threshold", "(0, inf)", optional=True),
        Hyper("batch_size", "(0, inf)", optional=True),
        Hyper("seed", f"[0, {MOST_SEED}]", scheduled=False, optional=True),
        DECAY,
    ),
    slots=(MU, Slot("nu"), replace(KEY, when=lambda on: on["estimator"] != "given")),
    options={"estimator": None, "update_interval": None, "bias_correction": None},
    extra=lambda on: (NEEDS[on["estimator"]],),
    gives="direction",
    decay="step",
    counts=lambda on: on["bias_correction"],
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """What takes the bias from the momentum."""
    return {"unbiased": 1 / debias(h.b1, h.t)} if h.bias_correction else {}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `sophia`; the diagonal is of this step already."""
    mu = h.b1 * s.mu + (1 - h.b1) * g
    d = (h.unbiased * mu if h.bias_correction else mu) / jnp.maximum(h.gamma * s.nu, h.eps)
    if h.clip_threshold is not None:
        d = jnp.clip(d, -h.clip_threshold, h.clip_threshold)
    return d, {"mu": mu, "nu": s.nu}


def renewal(estimate: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """The diagonal with one more estimate in it."""
    size = 1 if h.batch_size is None else h.batch_size
    return estimate, {"nu": h.b2 * s.nu + (1 - h.b2) * (size * estimate)}


class SophiaPart(CurvaturePart):
    """Its own mean of estimates."""

    renew = staticmethod(renewal)


@optimizer(SPEC, rule, door=curved(SophiaPart), prepare=prepare)
def sophia(
    learning_rate: Value = 1e-4,
    b1: Value = 0.965,
    b2: Value = 0.99,
    *,
    eps: Value = 1e-8,
    gamma: Value = 0.01,
    clip_threshold: Value | None = 1.0,
    update_interval: int = 10,
    estimator: Estimator = "hutchinson",
    batch_size: Value | None = None,
    seed: Number = 0,
    weight_decay: Value = 1e-4,
    bias_correction: bool = False,
    **common: Unpack[Decoupled],
) -> dict[str, Any] | None:
    """Sophia: momentum over the Hessian's diagonal, which is estimated every few steps.

    With η the learning rate, λ the weight decay and c an estimate of the diagonal of ∇²f at p:

        ν ← β₂·ν + (1 − β₂)·c            at step 1, and every k-th after it
        μ ← β₁·μ + (1 − β₁)·g
        p ← p·(1 − η·λ) − η·clip(μ / max(γ·ν, ε), ±ρ)

    The estimate is, with u of random signs, and f̂ the loss on labels drawn from the model:

        c = u·(∇²f·u)                    "hutchinson", Sophia-H
        c = B·(∇f̂)²                      "gauss_newton_bartlett", Sophia-G

    **Arguments** (defaults are optax's; η is the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, which stands for a curvature that is less, or below 0.
    - `gamma`: γ > 0; 0.01 in the paper for Hutchinson's estimator, 0.05 for the other.
    - `clip_threshold`: ρ > 0, 1 in the paper; `None` for no clipping.
    - `update_interval`: k ≥ 1: only then is there anything to estimate.
    - `estimator`: one of the two above, or `"given"`.
    - `batch_size`: B > 0, of "gauss_newton_bartlett" only: how many labels f̂ is the mean over.
    - `seed`: a whole number up to 2²⁴, from which the first key is made; read by `init`.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `bias_correction`: divide μ by 1 − β₁ᵗ, as optax does.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Decoupled`.

    **In `update` and `jopt.step`:** for "hutchinson", `value_fn=` (or `obj_fn=`), the loss as a
    function of the parameters, on this batch; for "gauss_newton_bartlett", `sampled_fn=`, f̂ as a
    function of the parameters and a random key; for "given", `hessian=`, c itself, a tree like the
    parameters, with `None` for no news of a leaf. All leaves, whatever their group, have one
    estimate; leaves without a gradient have none. `key=` may be the key of this step.

    **State:** `mu` and `nu`, like the parameters, in at least float32; but for "given", `key`, two
    uint32 for each group, so that a run that is resumed draws what it would have drawn.

    **Raises:** `ConfigError` for a number out of range, and without the function or tree.

    Source: Liu et al., 2023, "Sophia: a scalable stochastic second-order optimizer for language
    model pre-training", algorithms 1 to 3; there u is normal. optax, as the authors' code, takes
    an estimate in behind the step that it is due at, so that the first step has none.

    >>> import jax, jax.numpy as jnp, jopt
    >>> loss = lambda p: jnp.sum(jnp.array([1.0, 100.0]) * p["w"] ** 2) / 2
    >>> tx = jopt.sophia(0.1, b1=0.0, b2=0.0, gamma=1.0, weight_decay=0.0)
    >>> params = {"w": jnp.array([0.5, 0.5])}
    >>> grads = jax.grad(loss)(params)
    >>> updates, state = tx.update(grads, tx.init(params), params, value_fn=loss)
    >>> updates["w"].round(4)  # a Newton step times 0.1, whatever the curvature
    Array([-0.05, -0.05], dtype=float32)
    """
    check_estimator("sophia", estimator, [*NEEDS])
    check_batch_size("sophia", estimator, batch_size)
    check_seed("sophia", seed)
    every = {"update_interval": check_count("sophia", "update_interval", update_interval, 1)}
    return every | {"seed": None} if estimator == "given" else every
