"""AdaHessian: Adam with the Hessian's diagonal in place of the gradient in its second moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Unpack, get_args

import jax.numpy as jnp

from jopt.base import ConfigError
from jopt.core import Decoupled, Hyper, Number, Spec, Value, optimizer
from jopt.core.checks import check_count
from jopt.core.curvature import NEEDS, CurvaturePart, check_estimator, curved
from jopt.core.vocabulary import B1, B2, DECAY, EPS, MU, RATE, SQUARES
from jopt.numerics import Ratio, debias, lerp, safe_sqrt
from jopt.transforms.noise import KEY, MOST_SEED, check_seed

Estimator = Literal["hutchinson", "given"]
"""Where the diagonal of the Hessian comes from, see `jopt.adahessian`."""

SPEC = Spec(
    name="adahessian",
    hypers=(
        RATE,
        B1,
        B2,
        EPS,
        Hyper("hessian_power", "(0, 1]"),
        Hyper("seed", f"[0, {MOST_SEED}]", scheduled=False, optional=True),
        DECAY,
    ),
    slots=(MU, SQUARES, replace(KEY, when=lambda on: on["estimator"] != "given")),
    options={"estimator": None, "update_interval": None, "average": None},
    extra=lambda on: (NEEDS[on["estimator"]],),
    gives="direction",
    decay="step",
    counts=True,
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """What takes the bias from both means; of the second, by how many estimates are in it."""
    estimates = jnp.floor((h.t - 1) / h.update_interval) + 1
    return {"k1": 1 / debias(h.b1, h.t), "k2": 1 / jnp.sqrt(debias(h.b2, estimates))}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adahessian`; the mean of squares is of this step already."""
    mu = lerp(s.mu, g, 1 - h.b1)
    root = h.k2 * safe_sqrt(s.nu)
    flat = ~(root > 0)  # where a power has no derivative
    power = jnp.where(flat, 0, jnp.power(jnp.where(flat, 1, root), h.hessian_power))
    return Ratio(mu, power + h.eps, h.k1), {"mu": mu, "nu": s.nu}


def renewal(estimate: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """The mean of squares with one more estimate in it."""
    if h.average:
        # A sum of numbers, each in range, may be out of it.
        mean = jnp.sum(jnp.abs(estimate) / max(estimate.size, 1))
        estimate = jnp.broadcast_to(mean, estimate.shape)
    return estimate, {"nu": h.b2 * s.nu + (1 - h.b2) * jnp.square(estimate)}


class AdaHessianPart(CurvaturePart):
    """Its own mean of estimates, of blocks or entries."""

    renew = staticmethod(renewal)
    averages = "average"


@optimizer(SPEC, rule, door=curved(AdaHessianPart), prepare=prepare)
def adahessian(
    learning_rate: Value = 0.15,
    *,
    b1: Value = 0.9,
    b2: Value = 0.999,
    eps: Value = 1e-4,
    hessian_power: Value = 1.0,
    update_interval: int = 1,
    average: bool = False,
    estimator: Estimator = "hutchinson",
    seed: Number = 0,
    weight_decay: Value = 0.0,
    **common: Unpack[Decoupled],
) -> dict[str, Any] | None:
    """AdaHessian: Adam whose second moment is of the Hessian's diagonal, not of the gradient.

    With η the learning rate, λ the weight decay, κ the power, u of random signs, t the step and n
    the number of estimates so far, this step's included:

        c ← u·(∇²f·u)                    at step 1, and every k-th after it
        ν ← β₂·ν + (1 − β₂)·c²           then, too
        μ ← β₁·μ + (1 − β₁)·g
        p ← p·(1 − η·λ) − η·(μ / (1 − β₁ᵗ)) / ((ν / (1 − β₂ⁿ))^(κ/2) + ε)

    With `average` c is the mean of |c| over a block: a leaf, or a tensor of one by `axes`. The
    authors average over the window of a convolution, and over one entry elsewhere. With flax's
    kernels that is

        average=True, axes={r"conv.*kernel$": "h w i o -> (i o) h w",
                            r"dense.*kernel$": "i o -> (i o)", r"bias$": "i ..."}

    **Arguments** (defaults are the authors'):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `b1`, `b2`: β₁ and β₂ in [0, 1).
    - `eps`: ε ≥ 0, added after the bias correction and the power.
    - `hessian_power`: κ in (0, 1].
    - `update_interval`: k ≥ 1: only then is there anything to estimate.
    - `average`: average over blocks.
    - `estimator`: "hutchinson", or "given" for an estimate of your own.
    - `seed`: a whole number up to 2²⁴, from which the first key is made; read by `init`.
    - `weight_decay`: λ ≥ 0, decoupled.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype`, `axes` and what else every
      optimizer takes, see `jopt.Decoupled`.

    **In `update` and `jopt.step`:** for "hutchinson", `value_fn=` (or `obj_fn=`), the loss as a
    function of the parameters, on this batch; for "given", `hessian=`, c itself, a tree like the
    parameters, with `None` for no news of a leaf. All leaves, whatever their group, have one
    estimate; leaves without a gradient have none. `key=` may be the key of this step.

    **State:** `mu` and `nu`, like the parameters, in at least float32; the step count; but for
    "given", `key`, two uint32 for each group, so that a run that is resumed draws what it would
    have drawn.

    **Raises:** `ConfigError` for a number out of range, and without the function or tree.

    Source: Yao et al., 2021, "AdaHessian: an adaptive second order optimizer for machine learning",
    algorithm 1. Where k > 1, pytorch-optimizer's corrects ν by t, not n, so that early steps are
    too long; torch-optimizer's has no average for leaves of three axes, and takes another leaf's.

    >>> import jax, jax.numpy as jnp, jopt
    >>> loss = lambda p: jnp.sum(jnp.array([1.0, 100.0]) * p["w"] ** 2) / 2
    >>> tx = jopt.adahessian(0.1)
    >>> params = {"w": jnp.array([0.5, 0.5])}
    >>> grads = jax.grad(loss)(params)
    >>> updates, state = tx.update(grads, tx.init(params), params, value_fn=loss)
    >>> updates["w"].round(4)  # a Newton step times 0.1, whatever the curvature
    Array([-0.05, -0.05], dtype=float32)
    """
    check_estimator("adahessian", estimator, get_args(Estimator))
    if not isinstance(average, bool):
        raise ConfigError(
            "adahessian",
            "average is yes or no",
            expected="True or False",
            found=repr(average)[:100],
        )
    check_seed("adahessian", seed)
    every = {"update_interval": check_count("adahessian", "update_interval", update_interval, 1)}
    return every | {"seed": None} if estimator == "given" else every
