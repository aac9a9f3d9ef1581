"""From torch's scheduler classes and their arguments to jopt's schedules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jopt import schedules
from jopt.base import ConfigError
from jopt.interop.torch.schedulers.kinds import checked
from jopt.interop.torch.schedulers.rates import BUILDERS
from jopt.schedules import Plateau, Schedule

Child = Any  # a jopt schedule, or a pair of torch's class name and arguments


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
    made = _build(_BUILDERS, name, torch_kwargs, base_lr)
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
    momentum: Schedule = _build(_MOMENTA, name, torch_kwargs, None)[1]
    return momentum


def _build(
    builders: dict[str, Callable[..., Any]], name: str, kwargs: dict[str, Any], base: Any
) -> Any:
    if not isinstance(name, str) or name not in builders:
        raise ConfigError(
            "interop.torch",
            f"no scheduler of torch that jopt could build here is called {name!r}",
            expected=", ".join(sorted(builders)),
        )
    who, builder = f"torch.{name}", builders[name]
    if checked(who, "last_epoch", kwargs.pop("last_epoch", -1)) != -1:
        raise ConfigError(
            who,
            "a schedule has no epoch of its own: the optimizer's state counts the steps",
            expected="last_epoch=-1",
            fix="Restore the state; the schedule goes on from its count.",
        )
    wanted = list(inspect.signature(builder).parameters.values())[1:]
    unknown = set(kwargs) - {p.name for p in wanted}
    missing = [p.name for p in wanted if p.default is p.empty and p.name not in kwargs]
    if unknown or missing:
        raise ConfigError(
            who,
            f"has no argument {min(unknown)!r}" if unknown else f"needs {missing[0]}=",
            expected=", ".join(p.name for p in wanted),
            found=", ".join(sorted(kwargs)) or "none",
        )
    optional = {p.name for p in wanted if p.default is None}
    kwargs = {k: checked(who, k, v, k in optional) for k, v in kwargs.items()}
    base = checked(who, "base_lr", base, optional=True)
    if base is None and name not in _MOMENTA:
        raise ConfigError(who, "needs the base learning rate", fix=f"scheduler({name!r}, 1e-3)")
    return builder(base, **kwargs)


def _sequential(lr: Any, schedulers: Sequence[Child], milestones: Sequence[int]) -> Schedule:
    return schedules.join([_child("SequentialLR", c, lr) for c in schedulers], list(milestones))


# These multiply what they find. The others of torch's schedulers overwrite it.
FACTORS = frozenset(
    {
        "ChainedScheduler",
        "ConstantLR",
        "CosineAnnealingLR",
        "ExponentialLR",
        "LinearLR",
        "MultiStepLR",
        "MultiplicativeLR",
        "PolynomialLR",
        "StepLR",
    }
)


def _chained(lr: Any, schedulers: Sequence[Child], optimizer: Any = None) -> Schedule:
    del optimizer  # torch names it to check that the children share it
    who = "ChainedScheduler"
    for child in schedulers:
        if not isinstance(child, Plateau):
            _check_child(who, child)
    for child in schedulers if len(schedulers) > 1 else ():
        name, kwargs = child if isinstance(child, tuple) else (None, {})
        if (name is not None and name not in FACTORS) or kwargs.get("eta_min"):
            raise ConfigError(
                f"torch.{who}",
                f"{name} does not multiply the rate by a factor of its own: torch's result "
                "depends on the order of the schedulers and is no function of the step",
                expected=", ".join(sorted(FACTORS)) + "; eta_min=0",
                fix="Say what is meant with jopt.schedules.product, join or warmup.",
            )
    rates = [lr, *[1.0] * len(schedulers)]
    made = [_child(who, c, r) for c, r in zip(schedulers, rates, strict=False)]
    if schedulers and not isinstance(schedulers[0], tuple):
        made.insert(0, schedules.constant(lr))
    return schedules.product(*made)


def _check_child(who: str, child: Child) -> None:
    pair = isinstance(child, tuple) and len(child) == 2
    if callable(child) or (pair and isinstance(child[0], str) and isinstance(child[1], dict)):
        return
    raise ConfigError(
        f"torch.{who}",
        "this is no scheduler",
        expected='a jopt schedule, or a pair such as ("StepLR", {"step_size": 30})',
        found=repr(child)[:200],
    )


def _child(who: str, child: Child, lr: Any) -> Any:
    if not isinstance(child, Plateau):
        _check_child(who, child)
    if isinstance(child, tuple):
        child = scheduler(child[0], lr, **child[1])
    if isinstance(child, Plateau):
        raise ConfigError(
            f"torch.{who}", "a plateau needs a metric at each step and cannot be one of several"
        )
    return child


_BUILDERS: dict[str, Callable[..., Any]] = {
    **BUILDERS,
    "ChainedScheduler": _chained,
    "SequentialLR": _sequential,
}
_MOMENTA = {name: BUILDERS[name] for name in ("CyclicLR", "OneCycleLR")}
