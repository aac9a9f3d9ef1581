"""What papers and libraries have a name for, and what is two parts of this one."""

from __future__ import annotations

from typing import Unpack

from jopt.base import configured
from jopt.core import Coupled, Decoupled, Transform, Value
from jopt.optimizers import adamw, radam
from jopt.schedules import rectified
from jopt.wrappers import lookahead, schedule_free, stable


@configured("jopt.recipes.", shared=Decoupled)
def stable_adamw(
    learning_rate: Value = 1e-3,
    *,
    b1: Value = 0.9,
    b2: Value = 0.99,
    eps: Value = 1e-8,
    weight_decay: Value = 1e-2,
    max_rms: Value = 1.0,
    **common: Unpack[Decoupled],
) -> Transform:
    """StableAdamW: `jopt.stable` around `jopt.adamw`, a clip for every leaf by its own ν.

    **Arguments** are those of the two; b2 = 0.99 is the paper's advice.

    Source: Wortsman et al., 2023, "Stable and low-precision training for large-scale
    vision-language models", algorithm 2. Libraries that add ε to √ν̂, as AdamW does, agree.

    >>> import jopt
    >>> jopt.recipes.stable_adamw(3e-4)
    jopt.recipes.stable_adamw(learning_rate=0.0003)
    """
    inner = adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, **common)
    return stable(inner, max_rms=max_rms)


@configured("jopt.recipes.", shared=Coupled)
def ranger(
    learning_rate: Value = 1e-3,
    *,
    b1: Value = 0.95,
    b2: Value = 0.999,
    eps: Value = 1e-5,
    weight_decay: Value = 0.0,
    sync_period: int = 6,
    slow_step_size: Value = 0.5,
    **common: Unpack[Coupled],
) -> Transform:
    """Ranger: `jopt.lookahead` around `jopt.radam`.

    Later versions centralise gradients: put `jopt.centralize()` before it in a chain.

    **Arguments** are those of the two, with Ranger's defaults.

    Source: Wright, 2019, "Ranger: a synergistic optimizer".

    >>> import jopt
    >>> jopt.recipes.ranger(1e-3)
    jopt.recipes.ranger(learning_rate=0.001)
    """
    inner = radam(learning_rate, b1, b2, eps, weight_decay=weight_decay, **common)
    return lookahead(inner, sync_period=sync_period, slow_step_size=slow_step_size)


@configured("jopt.recipes.", shared=Decoupled)
def schedule_free_radam(
    learning_rate: Value = 2.5e-3,
    *,
    b1: Value = 0.9,
    b2: float = 0.999,
    eps: Value = 1e-8,
    weight_decay: Value = 0.0,
    weight_lr_power: Value = 2.0,
    **common: Unpack[Decoupled],
) -> Transform:
    """Schedule-free RAdam: no schedule, and no warm-up to tune.

    `jopt.schedule_free` around `jopt.adamw` without momentum, both with the learning rate times
    RAdam's rectification, `jopt.schedules.rectified`. That is 0 for the first steps, while ν is
    of too few gradients.

    **Arguments** are those of the two; `b2` is a number, for the rectification is made of it.

    Source: Defazio et al., 2024, and the authors' `RAdamScheduleFree` with its default,
    `silent_sgd_phase`.

    >>> import jopt
    >>> jopt.recipes.schedule_free_radam(1e-3)
    jopt.recipes.schedule_free_radam(learning_rate=0.001)
    """
    rate = rectified(learning_rate, b2=b2)
    inner = adamw(rate, 0.0, b2, eps, weight_decay=weight_decay, **common)
    return schedule_free(inner, rate, b1, weight_lr_power)
