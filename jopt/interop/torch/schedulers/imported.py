"""From the state dict of torch's scheduler to a jopt schedule that goes on where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jopt import schedules
from jopt.base import CheckpointError, ConfigError, plain
from jopt.interop._given import shown
from jopt.interop.torch.schedulers.build import momentum_schedule, scheduler
from jopt.interop.torch.schedulers.kind import KINDS, exactly
from jopt.interop.torch.schedulers.paced import paced, resumed
from jopt.interop.torch.schedulers.rebuilt import arguments, children, curve, opened
from jopt.interop.torch.schedulers.saved import Saved
from jopt.schedules import Plateau, Schedule


def import_scheduler(
    name: str,
    state_dict: Mapping[str, Any],
    /,
    *,
    group: int = 0,
    param_groups: Any = None,
    base_lr: float | None = None,
    every: int = 1,
    count: int | None = None,
    **given: Any,
) -> Schedule | Plateau:
    """The jopt schedule that goes on where a saved scheduler of torch's stands.

    torch saves what its schedulers were built with. The schedule is rebuilt from it, and checked:
    at torch's last step it has to give the rate that torch last had.

    **Arguments:**

    - `name`: the class name, such as `"StepLR"`: a state dict does not hold it.
    - `state_dict`: `scheduler.state_dict()`. It is only read.
    - `group`: which of the optimizer's parameter groups. Several groups with rates of their own
      are several schedules: one for the optimizer, the others in `jopt.group(...)`.
    - `param_groups`: the optimizer's state dict, or its `"param_groups"`: `OneCycleLR` and
      `SWALR` keep their arguments there.
    - `base_lr`: in place of the saved base rate.
    - `every`: how many steps the optimizer makes for one of the scheduler: torch's
      `scheduler.step()` is called after each step (1) or after each epoch.
    - `count`: the step count of jopt's state at which torch's scheduler made its last step.
      `None`: its number of steps times `every`, which is right if the optimizer's state comes
      over too, and if scheduler and optimizer started together. 0 for a fresh state.
    - `**given`: what no state dict holds: `lr_lambda=`, and `steps=` to make a table of a function
      that jax cannot trace; `scale_fn=`; `schedulers=[...]`, the class names of what
      `SequentialLR` or `ChainedScheduler` hold, with what those lack as `(name, {...})`. For
      `ReduceLROnPlateau`: `nan="skip"`, see `jopt.schedules.plateau`; `count` does not matter.

    A plateau comes with its memory: `tx.init(params)`, and so `import_optimizer`, puts that into
    the state.

    Where `jopt.interop.torch.scheduler` is not torch, this is nevertheless: a `total_iters` of 0
    keeps its first rate, a `MultiplicativeLR` within a `SequentialLR` goes on from the rate
    reached.

    **Raises:** `CheckpointError` for a state dict of another class, or a rate in torch that the
    schedule does not give (edited by hand, or by a second scheduler); `ConfigError` for what is
    missing.

    >>> saved = {"step_size": 30, "gamma": 0.1, "base_lrs": [0.5], "last_epoch": 31,
    ...          "_step_count": 32, "_last_lr": [0.05]}
    >>> import_scheduler("StepLR", saved)
    jopt.schedules.step(init_value=0.5, step_size=30, gamma=0.1)
    >>> rate = import_scheduler("StepLR", saved, every=100, count=0)
    >>> rate.config["shift"], round(float(rate(0)), 6)
    (3100, 0.05)
    """
    saved = opened(name, state_dict, group, param_groups, base_lr, given)
    if name == "ReduceLROnPlateau":
        return _plateau(saved, every)
    rate, epoch = curve(saved)
    _check_rate(saved, rate, epoch)
    return _at_pace(saved, rate, epoch, every, count)


def import_momentum_schedule(
    name: str,
    state_dict: Mapping[str, Any],
    /,
    *,
    group: int = 0,
    param_groups: Any = None,
    every: int = 1,
    count: int | None = None,
    **given: Any,
) -> Schedule:
    """What a saved `OneCycleLR` or `CyclicLR` does to the momentum, or to the first of the betas.

    **Arguments** and **Raises:** as `import_scheduler`, and `ConfigError` for another scheduler,
    or one with `cycle_momentum=False`.
    """
    saved = opened(name, state_dict, group, param_groups, None, given)
    curve = momentum_schedule(name, **arguments(saved))
    return _at_pace(saved, curve, saved.number("last_epoch"), every, count)


def _at_pace(saved: Saved, curve: Schedule, epoch: Any, every: Any, count: Any) -> Schedule:
    for key, value, least in (("every", every, 1), ("count", count or 0, -(2**31))):
        if type(known := plain(value)) is not int or not least <= known < 2**31:
            wanted, found = "a whole number", shown(value)
            raise ConfigError(saved.who, f"{key} counts steps", expected=wanted, found=found)
    if isinstance(epoch, float):  # steps within an epoch: what torch counts is stretched
        if "T_cur" not in saved.state:
            wanted, found = "a whole last_epoch", repr(epoch)
            raise CheckpointError(saved.who, "it stands at no step", expected=wanted, found=found)
        if every == 1:
            raise ConfigError(
                saved.who,
                "torch's scheduler was stepped in fractions of an epoch",
                found=f"T_cur {saved.state['T_cur']!r}",
                fix="Say how many steps the optimizer makes in one: every=len(loader).",
            )
        kwargs = arguments(saved)
        kwargs["T_0"] *= every
        curve = scheduler(saved.name, saved.base(), **kwargs)  # type: ignore[assignment]
        epoch, every = round(epoch * every), 1
    shift = 0 if count is None else epoch * every - count
    return curve if every == 1 and shift == 0 else paced(curve, every=every, shift=shift)


def _plateau(saved: Saved, every: int) -> Plateau:
    kwargs, rate = arguments(saved), saved.base_lr
    if rate is None:
        rate = saved.own("_last_lr") if saved.param_groups is None else saved.in_group("lr")
    made = schedules.plateau(
        float(rate),
        min_value=kwargs.pop("min_lr"),
        every=every,
        nan=saved.given.get("nan", "bad"),
        **kwargs,
    )
    return resumed(
        made,
        value=float(rate),
        best=float(saved.number("best")),
        bad=saved.number("num_bad_epochs"),
        cooldown=saved.number("cooldown_counter"),
    )


def _check_rate(saved: Saved, curve: Any, epoch: Any) -> None:
    """Raise `CheckpointError` unless the schedule gives the rate that torch has."""
    last = saved
    if saved.name == "ChainedScheduler" and "_last_lr" not in saved.state:  # put together by hand
        last = children(saved)[-1]
    if "_last_lr" not in last.state:  # as in files of torch before 1.4
        return
    if saved.name == "OneCycleLR" and epoch >= saved.number("total_steps"):
        return  # past its last step torch goes up again, where jopt stays
    want, got = float(last.own("_last_lr")), exactly(curve, epoch)
    base = saved.base() if "base_lrs" in saved.state else want
    if abs(got - want) <= 1e-6 * abs(want) + 1e-9 * abs(base):
        return
    fix = "torch overwrites an edit at its next step: build the schedule that is meant."
    absolute = ("ChainedScheduler", "CosineAnnealingLR")
    if KINDS[saved.name].multiplies and saved.name not in absolute and got:
        # It builds on the rate that it finds: an edit of it stays in force.
        follows = float(f"{base * want / got:.12g}")
        fix = f"If the rate was edited: base_lr={follows!r} goes on from it."
    raise CheckpointError(
        saved.who,
        "torch's last rate is not the one that its scheduler gives: it was edited, or another "
        "scheduler drives it too",
        expected=f"{got!r}, by the scheduler at its step {epoch}",
        found=f"{want!r}",
        fix=f"{fix}\n  Two schedulers on one optimizer are a chain: import_scheduler("
        '"ChainedScheduler", {"_schedulers": [first, second]}, schedulers=[...]).',
    )
