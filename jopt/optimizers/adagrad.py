"""Adagrad."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from jopt.core import Coupled, Hyper, Number, Slot, Spec, Value, optimizer
from jopt.core.vocabulary import DECAY, EPS, RATE
from jopt.numerics import Ratio, safe_sqrt

SPEC = Spec(
    name="adagrad",
    torch="Adagrad",
    hypers=(
        RATE,
        Hyper("lr_decay", "[0, inf)", torch="lr_decay"),
        DECAY,
        Hyper(
            "initial_accumulator_value",
            "[0, inf)",
            torch="initial_accumulator_value",
            scheduled=False,
        ),
        EPS,
    ),
    slots=(Slot("sum_of_squares", init="initial_accumulator_value", torch="sum", signed=False),),
    options={"maximize": "maximize"},
    gives="direction",
    decay="gradient",
    counts=True,
    params_by=("weight_decay",),
    elementwise=True,
)


def prepare(h: Any) -> dict[str, Any]:
    """The decay of the learning rate, as a factor of the direction."""
    return {"share": 1 / (1 + (h.t - 1) * h.lr_decay)}


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """See `adagrad`."""
    total = s.sum_of_squares + jnp.square(g)
    return Ratio(g, safe_sqrt(total) + h.eps, h.share), {"sum_of_squares": total}


@optimizer(SPEC, rule, prepare=prepare)
def adagrad(
    learning_rate: Value = 1e-2,
    *,
    lr_decay: Value = 0.0,
    weight_decay: Value = 0.0,
    initial_accumulator_value: Number = 0.0,
    eps: Value = 1e-10,
    **common: Unpack[Coupled],
) -> None:
    """Adagrad, as `torch.optim.Adagrad`.

    With η the learning rate, κ its decay, λ the weight decay and t the step from 1:

        g ← g + λ·p
        G ← G + g²
        p ← p − η / (1 + (t − 1)·κ) · g / (√G + ε)

    **Arguments** (defaults are torch's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `lr_decay`: κ ≥ 0, on top of the decay that G brings.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `initial_accumulator_value`: what G starts from, ≥ 0; for a complex parameter, both of
      its components. A number, read when the state is made. A group's own value counts; torch
      ignores it and takes the constructor's.
    - `eps`: ε ≥ 0.
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `sum_of_squares`, G, like the parameters, in at least float32, and the step count.

    **Raises:** `ConfigError` for a number out of range, or a schedule for
    `initial_accumulator_value`.

    Source: Duchi, Hazan and Singer, 2011, the diagonal case; κ is torch's.

    >>> import jax.numpy as jnp, jopt
    >>> tx = jopt.adagrad(0.1)
    >>> params = {"w": jnp.float32(1.0)}
    >>> updates, state = tx.update({"w": jnp.float32(2.0)}, tx.init(params), params)
    >>> round(float(jopt.apply_updates(params, updates)['w']), 4)
    0.9
    """
