"""ASGD: averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Hyper, Slot, Spec, Steps, Value, optimizer
from jopt.core.vocabulary import DECAY, RATE
from jopt.numerics import lerp

SPEC = Spec(
    name="asgd",
    torch="ASGD",
    hypers=(
        RATE,
        Hyper("lambd", "[0, inf)", torch="lambd"),
        Hyper("alpha", "[0, inf)", torch="alpha"),
        Hyper("t0", "[0, inf)", torch="t0"),
        DECAY,
    ),
    slots=(
        # Scalars of each leaf, since they were computed at the last step that it took part in.
        Slot("eta", shape="scalar", init="learning_rate", torch="eta", compress=False),
        Slot("weight", shape="scalar", init=1.0, torch="mu", compress=False),
        # The average moves by ever smaller shares: rounded, it would be all noise.
        Slot("average", torch="ax", compress=False),
    ),
    options={"maximize": "maximize"},
    decay="gradient",
    counts=True,
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """η and the weight of the average for the next step."""
    return {
        "eta": h.learning_rate / (1 + h.lambd * h.learning_rate * h.t) ** h.alpha,
        "weight": 1 / jnp.maximum(1, h.t - h.t0),
    }


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `asgd`."""
    # Torch makes its state at the first step: up to then, an edited learning rate counts.
    eta = jnp.where(h.t == 1, h.learning_rate, s.eta)
    p_new = p * (1 - h.lambd * eta) - eta * g
    average = lerp(s.average, p_new, s.weight)
    return p_new - p, {"eta": h.eta, "weight": h.weight, "average": average}


@optimizer(SPEC, rule, prepare=prepare)
def asgd(
    learning_rate: Value = 1e-2,
    lambd: Value = 1e-4,
    alpha: Value = 0.75,
    t0: Value = 1e6,
    weight_decay: Value = 0.0,
    **common: Unpack[Steps],
) -> None:
    """Averaged SGD, as `torch.optim.ASGD`.

    With γ the learning rate, λ the decay term, w the weight decay, t the step from 1, and the
    step size η, γ at the first step:

        g ← g + w·p
        p ← p·(1 − λ·η) − η·g
        a ← a + m·(p − a)  with m = 1 / max(1, t − 1 − t₀)
        η ← γ / (1 + λ·γ·t)^α  for the next step

    So a change of γ acts one step late, as in torch. λ shrinks p whatever the gradient.

    **Arguments** (defaults are torch's; it bounds only γ and w):

    - `learning_rate`: γ ≥ 0, a number or a schedule.
    - `lambd`: λ ≥ 0, both the decay of p and the speed at which η falls.
    - `alpha`: α ≥ 0, the power of that fall.
    - `t0`: t₀ ≥ 0, the step after which a is an average; until then it follows p.
    - `weight_decay`: w ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Steps`.

    **State:** `average`, a, like the parameters, in at least float32; the scalars `eta` and
    `weight`, η and m for the next step of each parameter; and the step count. Nothing reads
    `average`: evaluate with it in place of the parameters.

    **Raises:** `ConfigError` for a number out of range.

    Source: Polyak and Juditsky, 1992; Bottou, 2012, for the step size.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.asgd(0.1, lambd=0.0)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.8
    """
