"""From torch's scheduler classes and their arguments to jopt's schedules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from jopt.base import ConfigError
from jopt.interop._given import flag, function, known, number, one, row, word
from jopt.interop.torch.schedulers.kind import KINDS
from jopt.schedules import Plateau, Schedule

# What an argument is that is no number.
_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    **dict.fromkeys(("cycle_momentum", "three_phase"), flag),
    **dict.fromkeys(("lr_lambda", "scale_fn"), function),
    **dict.fromkeys(("milestones", "schedulers"), row),
    **dict.fromkeys(("anneal_strategy", "mode", "scale_mode", "threshold_mode"), word),
}


def scheduler(name: str, base_lr: Any = None, /, **torch_kwargs: Any) -> Schedule | Plateau:
    """The jopt schedule that is torch's scheduler `name` with torch's own arguments.

    **Arguments:**

    - `name`: the class name in `torch.optim.lr_scheduler`, or `"SWALR"`.
    - `base_lr`: the optimizer's learning rate. `OneCycleLR` and `CyclicLR` do without: torch
      overwrites it by `max_lr / div_factor` and by their own `base_lr=`.
    - `**torch_kwargs`: torch's keyword arguments but for the optimizer. `SequentialLR` and
      `ChainedScheduler` take `schedulers=[...]`: each one a pair `(name, torch_kwargs)`, which is
      built on the same `base_lr`, or a jopt schedule, which `SequentialLR` takes as it is and
      `ChainedScheduler` as a factor.
    - `LambdaLR` and `MultiplicativeLR` take `steps=n`, which torch has not: the function is then
      called with n + 1 (or n) Python ints now, and need not be traceable by jax.

    `momentum_schedule` gives the other half of `OneCycleLR` and `CyclicLR`.

    **Raises:** `ConfigError` for an unknown name or argument, for what torch refuses, for a list
    with a value for each group (give each `jopt.group` a schedule of its own), and for a
    `ChainedScheduler` whose schedulers overwrite one another.

    >>> scheduler("StepLR", 0.1, step_size=30)
    jopt.schedules.step(init_value=0.1, step_size=30, gamma=0.1)
    >>> warm = ("LinearLR", {"total_iters": 10})
    >>> rest = ("CosineAnnealingLR", {"T_max": 90})
    >>> both = scheduler("SequentialLR", 0.1, schedulers=[warm, rest], milestones=[10])
    >>> round(float(both(10)), 6)
    0.1
    """
    made = _build(name, torch_kwargs, base_lr)
    rate: Schedule | Plateau = made[0] if isinstance(made, tuple) else made
    return rate


def momentum_schedule(name: str, /, **torch_kwargs: Any) -> Schedule:
    """What `OneCycleLR` or `CyclicLR` does to the momentum, or to the first of the betas.

    **Arguments:** as `scheduler`'s. The result is for `momentum=` or `b1=` of a jopt optimizer.

    **Raises:** `ConfigError` for another scheduler, or `cycle_momentum=False`.

    >>> momentum_schedule("OneCycleLR", max_lr=0.1, total_steps=100)(0)
    Array(0.95, dtype=float32)
    """
    if torch_kwargs.get("cycle_momentum") is False:
        raise ConfigError(f"torch.{name}", "cycle_momentum=False leaves the momentum alone")
    both = [name for name, kind in KINDS.items() if kind.momentum]
    momentum: Schedule = _build(name, torch_kwargs, None, both)[1]
    return momentum


def _build(name: Any, kwargs: dict[str, Any], base: Any, among: Iterable[str] = KINDS) -> Any:
    known("interop.torch", "scheduler", name, among)
    who, kind = f"torch.{name}", KINDS[name]
    if _checked(who, "last_epoch", kwargs.pop("last_epoch", -1)) != -1:
        raise ConfigError(
            who,
            "a schedule has no epoch of its own: the optimizer's state counts the steps",
            expected="last_epoch=-1",
            fix="Restore the state; the schedule goes on from its count.",
        )
    wanted = kind.parameters
    unknown = set(kwargs) - set(wanted)
    missing = [
        k for k, default in wanted.items() if default is inspect.Parameter.empty and k not in kwargs
    ]
    if unknown or missing:
        raise ConfigError(
            who,
            f"has no argument {min(unknown)!r}" if unknown else f"needs {missing[0]}=",
            expected=", ".join(wanted),
            found=", ".join(sorted(kwargs)) or "none",
        )
    kwargs = {k: _checked(who, k, v, wanted[k] is None) for k, v in kwargs.items()}
    base = _checked(who, "base_lr", base, optional=True)
    if base is None and not kind.momentum:
        raise ConfigError(who, "needs the base learning rate", fix=f"scheduler({name!r}, 1e-3)")
    return kind.within.build(base, **kwargs) if kind.within else kind.built(base, kwargs)


def _checked(who: str, name: str, value: Any, optional: bool = False) -> Any:
    """The value as Python's own, if it is of the kind that the argument wants."""
    if name == "optimizer" or (value is None and optional):
        return value
    value, check = one(who, name, value), _CHECKS.get(name, number)
    if check not in (row, function) and isinstance(value, list | tuple):
        raise ConfigError(
            who,
            f"{name} has a value for each parameter group",
            expected="one value",
            found=repr(value),
            fix="Build a schedule for each group: jopt.group(pattern, learning_rate=...).",
        )
    return check(who, name, value)
