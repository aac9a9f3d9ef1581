"""Rprop: resilient backpropagation, which looks at signs only."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.base import ConfigError, plain
from jopt.core import Hyper, Number, Slot, Spec, Steps, Value, optimizer

SPEC = Spec(
    name="rprop",
    torch="Rprop",
    hypers=(
        Hyper("learning_rate", "[0, inf)", torch="lr", scheduled=False),
        Hyper("eta_minus", "(0, 1)", torch="etas[0]"),
        Hyper("eta_plus", "(1, inf)", torch="etas[1]"),
        Hyper("min_step_size", "[0, inf)", torch="step_sizes[0]"),
        Hyper("max_step_size", "[0, inf)", torch="step_sizes[1]"),
    ),
    slots=(
        Slot("prev", torch="prev"),
        Slot("step_size", init="learning_rate", torch="step_size", signed=False),
    ),
    options={"maximize": "maximize"},
    gives="step",
    counts=True,
    elementwise=True,
    params_by=(),
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `rprop`."""
    # Torch makes its state at the first step: up to then, an edited learning rate counts.
    last = jnp.where(h.t == 1, h.learning_rate, s.step_size)
    agree = jnp.sign(g) * jnp.sign(s.prev)
    factor = jnp.where(agree > 0, h.eta_plus, jnp.where(agree < 0, h.eta_minus, 1))
    step_size = jnp.minimum(jnp.maximum(last * factor, h.min_step_size), h.max_step_size)
    g = jnp.where(agree < 0, 0, g)
    return jnp.sign(g) * step_size, {"prev": g, "step_size": step_size}


@optimizer(SPEC, rule)
def rprop(
    learning_rate: Number = 1e-2,
    eta_minus: Value = 0.5,
    eta_plus: Value = 1.2,
    min_step_size: Value = 1e-6,
    max_step_size: Value = 50.0,
    **common: Unpack[Steps],
) -> None:
    """Rprop, as `torch.optim.Rprop`. For gradients of the whole data set, not of batches.

    Each entry has a step size Δ of its own, η at the first step. With g' the last gradient:

        Δ ← clip(Δ·f, Δ_min, Δ_max);  f = η₊ if g·g' > 0, η₋ if g·g' < 0, else 1
        g ← 0 if g·g' < 0
        p ← p − sign(g)·Δ

    An entry whose gradient has changed its sign waits for one step.

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, the first step size, a number. It is read at a parameter's first
      step and never again, as in torch; a schedule could not act and is refused. To rescale a
      run, edit `step_size` in the state.
    - `eta_minus`, `eta_plus`: η₋ in (0, 1) and η₊ > 1, torch's `etas`.
    - `min_step_size`, `max_step_size`: Δ_min and Δ_max ≥ 0, torch's `step_sizes`.
    - `**common`: `maximize`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Steps`.

    **State:** `prev` and `step_size` like the parameters, in at least float32, and the step
    count.

    **Raises:** `ConfigError` for a number out of range, Δ_min > Δ_max, or a schedule for
    `learning_rate`.

    Source: Riedmiller and Braun, 1993, in the form iRprop⁻ of Igel and Hüsken, 2000. The signs
    are compared, where torch takes the sign of g·g', which tiny gradients underflow to 0.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.rprop(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
    low, high = plain(min_step_size), plain(max_step_size)
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        raise ConfigError(
            "rprop",
            "no step size fits",
            expected="min_step_size <= max_step_size",
            found=f"min_step_size = {low!r}, max_step_size = {high!r}",
        )
