"""From a jopt schedule and the step where it stands to the state dict of torch's scheduler."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jopt.base import ConfigError
from jopt.interop._given import flag, function, number, one, shown, wrong
from jopt.interop.torch.schedulers.kind import Named, exactly
from jopt.interop.torch.schedulers.names import GROUP_ARGUMENTS, named
from jopt.interop.torch.tensors import shortest
from jopt.schedules import Plateau

_LEFT_IN_GROUPS = {"initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum"}


class TorchScheduler(NamedTuple):
    """What torch needs to go on with a schedule of jopt's.

    **Attributes:** `name`: the class in `torch.optim.lr_scheduler` (or `"SWALR"`); `arguments`:
    what to build it with; `state_dict`: for its `load_state_dict`; `param_groups`: for each of
    the optimizer's parameter groups what the scheduler keeps there, `"lr"` and `"initial_lr"`
    among it.
    """

    name: str
    arguments: dict[str, Any]
    state_dict: dict[str, Any]
    param_groups: list[dict[str, Any]]


def export_scheduler(
    schedule: Any,
    count: Any = None,
    *,
    memory: Mapping[str, Any] | None = None,
    momentum: Any = None,
    beta1: bool = False,
    base_lr: float | None = None,
    as_lambda: bool = False,
) -> TorchScheduler:
    """Torch's scheduler that goes on where a jopt schedule stands.

    In torch, build the optimizer, then the scheduler, then load both, and write into the groups
    what the scheduler keeps there:

        out = export_scheduler(rate, state["adamw"]["count"])
        optimizer = torch.optim.AdamW(model.parameters())
        scheduler = getattr(torch.optim.lr_scheduler, out.name)(optimizer, **out.arguments)
        optimizer.load_state_dict(export_optimizer(tx, params, state))
        for group, own in zip(optimizer.param_groups, out.param_groups):
            group.update(own)
        scheduler.load_state_dict(out.state_dict)

    For `SequentialLR` and `ChainedScheduler`, `arguments["schedulers"]` holds pairs `(name,
    arguments)`, to be built on the same optimizer first, in this order.

    **Arguments:**

    - `schedule`: one of `jopt.schedules`, or a list with one for each of the optimizer's
      parameter groups: of one kind, with rates of their own.
    - `count`: the step count in the optimizer's state. For `jopt.interop.torch.paced` schedules
      torch's scheduler stands at its own, slower count.
    - `memory`: of a plateau: `state["adamw"]["schedules"]["default"]["learning_rate"]`.
    - `momentum`: the schedule of the momentum, if it follows `onecycle` or `cyclic` too; and
      `beta1`: whether it is the first of the betas.
    - `base_lr`: torch's base rate, where a schedule leaves it open; `None`: its largest value.
    - `as_lambda`: make a `LambdaLR` that calls the jopt schedule, whatever it is. torch does not
      save functions: `arguments` hold it, and jopt has to be there to run it.

    **Raises:** `ConfigError` for a schedule that none of torch's classes follows.

    >>> import jopt
    >>> out = export_scheduler(jopt.schedules.step(0.5, 30), 3)
    >>> out.name, out.arguments
    ('StepLR', {'step_size': 30, 'gamma': 0.1})
    >>> out.state_dict["last_epoch"], out.param_groups
    (3, [{'lr': 0.5, 'initial_lr': 0.5}])
    >>> export_scheduler(jopt.schedules.wsd(0.1, 2, 5, 3), 1)
    Traceback (most recent call last):
      ...
    jopt.base.errors.ConfigError: export_scheduler: no scheduler of torch follows jopt.schedules.wsd
      found:    jopt.schedules.wsd(peak_value=0.1, warmup_steps=2, stable_steps=5, decay_steps=3)
      as_lambda=True makes a LambdaLR that calls it.
    """
    who = "export_scheduler"
    rows = list(schedule) if isinstance(schedule, list | tuple) else [schedule]
    if not rows:
        raise ConfigError(who, "there is no schedule")
    flag(who, "as_lambda", as_lambda)
    flag(who, "beta1", beta1)
    base_lr = None if base_lr is None else number(who, "base_lr", base_lr)
    if isinstance(base_lr, jax.core.Tracer):
        raise wrong(who, "base_lr", "a number of torch's", "one that is known, not traced", base_lr)
    for row in rows:
        function(who, "schedule", row)
    if momentum is not None:
        function(who, "momentum", momentum)
    found = [_as_lambda(r, base_lr) if as_lambda else named(r, base_lr, momentum) for r in rows]
    first = found[0]
    for other in found[1:]:
        if _shared(other) != _shared(first) or other.every != first.every:
            raise ConfigError(
                who,
                "one scheduler of torch serves all groups: only rates may differ",
                expected=repr(rows[0]),
                found=repr(rows[found.index(other)]),
            )
    if isinstance(rows[0], Plateau):
        return _plateau(rows, found, count, memory)
    step = one(who, "count", count)
    if memory is not None or type(step) is not int or not 0 <= step < 2**62:
        raise ConfigError(
            who,
            "a schedule stands at a step",
            expected='count=, such as state["adamw"]["count"]',
            found=shown(memory if memory is not None else count),
        )
    epoch = max(step + first.shift, 0) // first.every
    rates = [exactly(row, step) for row in rows]
    momenta = None if momentum is None else exactly(momentum, step)
    kwargs = _arguments(found)
    optimizer = _optimizer([n.base for n in found], beta1)
    driver = _built(optimizer, first.name, kwargs)
    _stand(driver, epoch, rates)
    kept = [{k: v for k, v in g.items() if k in _LEFT_IN_GROUPS} for g in optimizer.param_groups]
    own = {} if momenta is None or beta1 else {"momentum": momenta}
    kept = [{"lr": rate, **group, **own} for group, rate in zip(kept, rates, strict=True)]
    return TorchScheduler(first.name, kwargs, copy.deepcopy(driver.state_dict()), kept)


def _as_lambda(schedule: Any, base_lr: float | None) -> Named:
    if isinstance(schedule, Plateau):
        raise ConfigError("export_scheduler", "a plateau is no function of the step")
    base = 1.0 if base_lr is None else base_lr
    return Named("LambdaLR", base, {"lr_lambda": lambda epoch: exactly(schedule, epoch) / base})


def _shared(found: Named) -> Any:
    """What has to be the same in all groups."""
    kwargs = {k: v for k, v in found.arguments.items() if k not in GROUP_ARGUMENTS}
    if "schedulers" in kwargs:
        kwargs["schedulers"] = [(n.name, _shared(n)) for n in kwargs["schedulers"]]
    return found.name, kwargs


def _arguments(found: Sequence[Named]) -> dict[str, Any]:
    """The arguments of one scheduler for all groups, lists where torch takes one for each."""
    kwargs = dict(found[0].arguments)
    for key in GROUP_ARGUMENTS & set(kwargs):
        row = [n.arguments[key] for n in found]
        kwargs[key] = row[0] if len(row) == 1 else row
    if "schedulers" in kwargs:
        parts = zip(*(n.arguments["schedulers"] for n in found), strict=True)
        kwargs["schedulers"] = [(row[0].name, _arguments(row)) for row in parts]
    return kwargs


def _optimizer(bases: Sequence[float], beta1: bool) -> Any:
    """An optimizer to build a scheduler of torch on, which then says what it saves."""
    import torch

    groups = [{"params": [torch.nn.Parameter(torch.zeros(()))], "lr": base} for base in bases]
    return torch.optim.Adam(groups) if beta1 else torch.optim.SGD(groups, momentum=0.5)


def _built(optimizer: Any, name: str, kwargs: Mapping[str, Any]) -> Any:
    from torch.optim import lr_scheduler, swa_utils

    kwargs = dict(kwargs)
    if "schedulers" in kwargs:
        kwargs["schedulers"] = [_built(optimizer, *child) for child in kwargs["schedulers"]]
    if name == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(**kwargs)
    made = swa_utils.SWALR if name == "SWALR" else getattr(lr_scheduler, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the optimizer here never steps
        return made(optimizer, **kwargs)


def _stand(driver: Any, epoch: int, rates: list[float]) -> None:
    """Put a fresh scheduler of torch where it would stand after `epoch` steps."""
    marks = getattr(driver, "_milestones", [])
    for i, child in enumerate(getattr(driver, "_schedulers", [])):
        # Of a sequence those that are over stand at their ends, those to come at their beginnings.
        start, end = [0, *marks][i] if marks else 0, marks[i] - 1 if i < len(marks) else epoch
        if epoch >= start:
            _stand(child, min(epoch, end) - start, rates)
    driver._last_lr = list(rates)
    if hasattr(driver, "last_epoch"):
        driver.last_epoch = epoch
    if type(driver).__name__ == "CosineAnnealingWarmRestarts":  # it never counts its steps
        driver.T_i, start = driver.T_0, epoch // driver.T_0 * driver.T_0
        start = start if driver.T_mult == 1 else 0
        while epoch >= start + driver.T_i:
            start, driver.T_i = start + driver.T_i, driver.T_i * driver.T_mult
        driver.T_cur = epoch - start
    elif hasattr(driver, "_step_count"):
        driver._step_count = epoch + 1


def _plateau(
    rows: Sequence[Any], found: Sequence[Named], count: Any, memory: Mapping[str, Any] | None
) -> TorchScheduler:
    who = "export_scheduler"
    if memory is None:
        fix = 'Give memory=state["adamw"]["schedules"]["default"]["learning_rate"].'
        raise ConfigError(who, "a plateau stands where its memory says", fix=fix)
    if len(rows) > 1:
        raise ConfigError(who, "a plateau has one memory", fix="Export one for each group.")
    wanted = ["bad", "best", "cooldown", "reduce", "seen", "value"]
    if not isinstance(memory, Mapping) or not set(wanted) <= set(memory):
        raise wrong(who, "memory", "a plateau's", ", ".join(wanted), memory)
    for key in wanted:
        told = one(who, name := f"memory[{key!r}]", memory[key])
        number(who, name, int(told) if isinstance(told, bool) else told, finite=False)
    if int(memory["seen"]):
        raise ConfigError(
            who,
            "the plateau is in the middle of a window of metrics, which torch does not have",
            found=f"{int(memory['seen'])} of every={rows[0]._is['every']}",
            fix="Export at the end of one.",
        )
    kwargs = found[0].arguments
    rate = shortest(memory["value"])
    if bool(memory["reduce"]):  # torch has reduced it by now
        lower = max(rate * kwargs["factor"], kwargs["min_lr"])
        rate = lower if rate - lower > kwargs["eps"] else rate
    driver = _built(_optimizer([rate], False), "ReduceLROnPlateau", kwargs)
    driver.best = float(memory["best"])
    driver.num_bad_epochs, driver.cooldown_counter = int(memory["bad"]), int(memory["cooldown"])
    driver.last_epoch = 0 if count is None else int(count) // rows[0]._is["every"]
    return TorchScheduler("ReduceLROnPlateau", kwargs, driver.state_dict(), [{"lr": rate}])
