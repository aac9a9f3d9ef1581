"""RMSprop."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.base import ConfigError
from jopt.core import Coupled, Hyper, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import Ratio, debias, lerp, safe_sqrt

SPEC = Spec(
    name="rmsprop",
    torch="RMSprop",
    hypers=(
        RATE,
        Hyper("decay", "[0, 1]", torch="alpha"),
        EPS,
        DECAY,
        Hyper("momentum", "[0, inf)", torch="momentum", optional="zero"),
    ),
    slots=(
        Slot("nu", torch="square_avg", signed=False),
        Slot("momentum_buffer", when=lambda on: on["momentum"], torch="momentum_buffer"),
        Slot("mu", when=lambda on: on["centered"], torch="grad_avg"),
    ),
    options={"centered": "centered", "bias_correction": None, "maximize": "maximize"},
    gives="direction",
    decay="gradient",
    counts=True,
    ageless=lambda on: not on["bias_correction"],
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The factor that undoes the bias of the mean."""
    return {"k": 1 / debias(h.decay, h.t)} if h.bias_correction else {}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `rmsprop`."""
    new = {"nu": h.decay * s.nu + (1 - h.decay) * jnp.square(g)}
    variance = h.k * new["nu"] if h.bias_correction else new["nu"]
    if h.centered:
        new["mu"] = lerp(s.mu, g, 1 - h.decay)
        # Of a mean square that is infinite the variance is, too; ∞ − ∞ would be no number.
        centered = jnp.maximum(variance - jnp.square(new["mu"]), 0)
        variance = jnp.where(variance < jnp.inf, centered, variance)
    d = Ratio(g, safe_sqrt(variance) + h.eps)
    if h.momentum is None:
        return d, new
    new["momentum_buffer"] = h.momentum * s.momentum_buffer + d.value
    return new["momentum_buffer"], new


@optimizer(SPEC, rule, prepare=prepare)
def rmsprop(
    learning_rate: Value = 1e-2,
    decay: Value = 0.99,
    eps: Value = 1e-8,
    *,
    weight_decay: Value = 0.0,
    momentum: Value = False,
    centered: bool = False,
    bias_correction: bool = False,
    **common: Unpack[Coupled],
) -> None:
    """RMSprop, as `torch.optim.RMSprop`.

    With η the learning rate, α the decay of the means, λ the weight decay and m the momentum:

        g ← g + λ·p
        ν ← α·ν + (1 − α)·g²
        μ ← μ + (1 − α)·(g − μ)  if centered
        d ← g / (√ν + ε);  g / (√max(ν − μ², 0) + ε) if centered
        b ← m·b + d  with momentum
        p ← p − η·b;  p − η·d without momentum

    Without bias correction the first steps are up to 1 / √(1 − α) times as long as later ones;
    with it ν / (1 − αᵗ) stands for ν in d, t being the step from 1. That is Adam without a
    momentum, or a slot for it: AdamW with `decoupled=True`. The buffer does not hold η, so that a
    change of the learning rate acts at once.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `decay`: α in [0, 1], torch's `alpha` (which torch does not bound above).
    - `eps`: ε ≥ 0, outside the root.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `momentum`: m ≥ 0. Off, or the number 0, keeps no buffer and takes `momentum` out of the
      state.
    - `centered`: divide by the standard deviation instead; one more slot, `mu`.
    - `bias_correction`: undo the bias of ν; optax's. Not with `centered`: the variance of the
      first gradient, corrected, is 0, and the step g / ε.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `nu` like the parameters, in at least float32, `momentum_buffer` with momentum,
    `mu` if centered, and the step count.

    **Raises:** `ConfigError` for a number out of range, or bias correction where it has no meaning.

    Source: Tieleman and Hinton, 2012, lecture 6.5; Graves, 2013, equations 38 to 41, for
    centered. Rounding can take ν − μ² below 0, for instance when a gradient hardly changes for a
    hundred steps: torch then gives NaN, jopt takes the variance as 0.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.rmsprop(0.05)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.5
    """
    if bias_correction and (centered or (isinstance(decay, int | float) and decay == 1)):
        raise ConfigError(
            "rmsprop",
            "bias_correction is for a mean square that moves",
            expected="decay < 1, and centered=False",
            found=f"decay = {decay!r}, centered = {centered!r}",
        )
