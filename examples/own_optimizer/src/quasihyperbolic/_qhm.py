"""Quasi-hyperbolic momentum: a step between the gradient and its mean."""

from __future__ import annotations

from typing import Any, Unpack

import jopt

SPEC = jopt.Spec(
    name="qhm",
    hypers=(
        jopt.Hyper("learning_rate", "[0, inf)"),
        jopt.Hyper("momentum", "[0, 1)"),
        jopt.Hyper("nu", "[0, 1]"),
        jopt.Hyper("weight_decay", "[0, inf)"),
    ),
    slots=(jopt.Slot("mu"),),
    gives="direction",
    decay="gradient",
    params_by=("weight_decay",),  # without it an update needs no parameters
    elementwise=True,
)


def rule(g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
    """One leaf: gradient, slots, parameter, numbers in; direction and new slots out."""
    mu = h.momentum * s.mu + (1 - h.momentum) * g
    return (1 - h.nu) * g + h.nu * mu, {"mu": mu}


@jopt.optimizer(SPEC, rule, prefix="quasihyperbolic.")
def qhm(
    learning_rate: jopt.core.Value = 1.0,
    momentum: jopt.core.Value = 0.999,
    nu: jopt.core.Value = 0.7,
    *,
    weight_decay: jopt.core.Value = 0.0,
    **common: Unpack[jopt.Coupled],
) -> None:
    """Quasi-hyperbolic momentum, which is SGD for ν = 0 and heavy-ball momentum for ν = 1.

    With η the learning rate, β the momentum and λ the weight decay:

        g ← g + λ·p
        μ ← β·μ + (1 − β)·g
        p ← p − η·((1 − ν)·g + ν·μ)

    **Arguments** (defaults are the paper's):

    - `learning_rate`: η ≥ 0, a number or a schedule, as are all that follow.
    - `momentum`: β in [0, 1).
    - `nu`: ν in [0, 1], the weight of the mean.
    - `weight_decay`: λ ≥ 0.
    - `**common`: `groups`, `state_dtype` and what else every optimizer takes: `jopt.Coupled`.

    Source: Ma and Yarats, Quasi-hyperbolic momentum and Adam for deep learning, 2019, eq. 3.
    """
