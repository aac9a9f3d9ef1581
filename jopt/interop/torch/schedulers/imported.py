"""From the state dict of torch's scheduler to a jopt schedule that goes on where it stands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import jax

from jopt import schedules
from jopt.base import CheckpointError, ConfigError, as_row, plain
from jopt.interop._given import shown
from jopt.interop.torch.schedulers.arguments import arguments
from jopt.interop.torch.schedulers.build import FACTORS, momentum_schedule, scheduler
from jopt.interop.torch.schedulers.paced import paced, resumed
from jopt.interop.torch.schedulers.saved import Saved
from jopt.schedules import Plateau, Schedule

# They build on the rate that they find: an edit of it stays in force.
_BUILDS_ON = FACTORS - {"ChainedScheduler", "CosineAnnealingLR"}


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
    saved = _saved(name, state_dict, group, param_groups, base_lr, given)
    if name == "ReduceLROnPlateau":
        return _plateau(saved, every)
    curve, epoch = _curve(saved)
    _check_rate(saved, curve, epoch)
    return _at_pace(saved, curve, epoch, every, count)


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
    saved = _saved(name, state_dict, group, param_groups, None, given)
    curve = momentum_schedule(name, **arguments(saved))
    return _at_pace(saved, curve, saved.number("last_epoch"), every, count)


def _saved(
    name: str,
    state_dict: Mapping[str, Any],
    group: int,
    param_groups: Any,
    base_lr: float | None,
    given: Mapping[str, Any],
) -> Saved:
    groups = as_row(param_groups)
    if isinstance(param_groups, Mapping):
        groups = param_groups.get("param_groups") or ()
    saved = Saved(name, state_dict, group, groups, base_lr, given)
    saved.check()
    return saved


def _at_pace(saved: Saved, curve: Schedule, epoch: Any, every: Any, count: Any) -> Schedule:
    for key, value in (("every", every), ("count", 0 if count is None else count)):
        known = plain(value)
        whole = isinstance(known, int) and not isinstance(known, bool)
        if not whole or not (1 if key == "every" else -(2**31)) <= known < 2**31:
            raise ConfigError(
                saved.who, f"{key} counts steps", expected="a whole number", found=shown(value)
            )
    if isinstance(epoch, float) and "T_cur" not in saved.state:
        raise CheckpointError(
            saved.who, "it stands at no step", expected="a whole last_epoch", found=repr(epoch)
        )
    if isinstance(epoch, float):  # steps within an epoch: what torch counts is stretched
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


def _curve(saved: Saved) -> tuple[Any, Any]:
    """The schedule of torch's own steps, and at which of them it stands."""
    if saved.name == "ReduceLROnPlateau":
        raise ConfigError(
            saved.who, "a plateau needs a metric at each step and cannot be one of several"
        )
    if saved.name == "SequentialLR":
        return _sequential(saved)
    if saved.name == "ChainedScheduler":
        return _chained(saved)
    kwargs = arguments(saved)
    if kwargs.get("total_iters") == 0:
        factor = kwargs.get("start_factor", kwargs.get("factor", 1.0))
        return schedules.constant(saved.base() * factor), saved.number("last_epoch")
    epoch = _stands_at(saved)
    base = _swa_base(saved, kwargs, epoch) if saved.name == "SWALR" else saved.base()
    return scheduler(saved.name, base, **kwargs), epoch


def _stands_at(saved: Saved) -> Any:
    if saved.name == "SWALR":  # driven by the number of its calls
        return saved.number("_step_count") - 1
    if saved.name != "CosineAnnealingWarmRestarts" or not isinstance(saved.state["T_cur"], float):
        return saved.number("last_epoch")
    period, start = saved.number("T_0"), 0
    while period < saved.number("T_i"):
        start, period = start + period, period * saved.number("T_mult")
    if saved.number("T_mult") == 1:
        start = saved.number("last_epoch") // period * period
    return start + float(saved.state["T_cur"])


def _swa_base(saved: Saved, kwargs: Mapping[str, Any], epoch: int) -> float:
    """The rate SWALR started from: the group's own, or what another scheduler had left there."""
    base, target, now = saved.base(), kwargs["swa_lr"], saved.own("_last_lr")
    done = _exactly(scheduler("SWALR", 0.0, **{**kwargs, "swa_lr": 1.0}), epoch)
    expected = base * (1 - done) + target * done
    if saved.base_lr is not None or done >= 1 or abs(expected - now) <= 1e-12 * abs(now):
        return base
    return float((now - done * target) / (1 - done))


def _sequential(saved: Saved) -> tuple[Any, Any]:
    arguments(saved)  # to refuse what it does not take
    marks = saved.milestones()
    epoch, starts = saved.number("last_epoch"), [0, *marks]
    parts: list[Any] = []
    for i, child in enumerate(saved.children()):
        if child.name == "MultiplicativeLR" and parts:  # alone of all it does not start anew
            reached = _exactly(schedules.join(parts, marks[: i - 1]), starts[i] - 1)
            if "_is_initial" in child.state:  # newer torch multiplies by f(0) here
                reached *= float(child.function("lr_lambda", child.entry("lr_lambdas"))(0))
            child = Saved(child.name, child.state, child.group, None, reached, child.given)
        curve, stands = _curve(child)
        # Within another, torch's sequence may run a step ahead of it.
        ahead = stands - (epoch - starts[i]) if i == bisect_right(marks, epoch) else 0
        parts.append(paced(curve, shift=ahead) if ahead else curve)
    return schedules.join(parts, marks), epoch


def _chained(saved: Saved) -> tuple[Any, Any]:
    arguments(saved)
    children = saved.children()
    if len(children) == 1:
        return _curve(children[0])
    pairs: list[Any] = []
    epochs = []
    for child in children:
        kwargs = arguments(child)
        still = kwargs.get("total_iters") == 0 and child.name != "ReduceLROnPlateau"
        factor = kwargs.get("start_factor", kwargs.get("factor", 1.0))
        pairs.append(
            ("ConstantLR", {"factor": factor, "total_iters": 2**31 - 1})
            if still
            else (child.name, kwargs)
        )
        epochs.append(_stands_at(child) if "last_epoch" in child.state else None)
    if len(set(epochs)) > 1:
        raise CheckpointError(
            saved.who,
            "its schedulers stand at different steps",
            found=", ".join(f"{c.name} at {e}" for c, e in zip(children, epochs, strict=True)),
        )
    return scheduler("ChainedScheduler", children[0].base(), schedulers=pairs), epochs[0]


def _plateau(saved: Saved, every: int) -> Plateau:
    kwargs = arguments(saved)
    if saved.base_lr is not None:
        rate = saved.base_lr
    elif saved.param_groups is not None:
        rate = saved.in_group("lr")
    else:
        rate = saved.own("_last_lr")
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


def _exactly(curve: Any, step: Any) -> float:
    # Inside of a trace, too: all of this is known on the host.
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        return float(curve(step))


def _check_rate(saved: Saved, curve: Any, epoch: Any) -> None:
    """Raise `CheckpointError` unless the schedule gives the rate that torch has."""
    last = saved
    if saved.name == "ChainedScheduler" and "_last_lr" not in saved.state:  # put together by hand
        last = saved.children()[-1]
    if "_last_lr" not in last.state:  # as in files of torch before 1.4
        return
    if saved.name == "OneCycleLR" and epoch >= saved.number("total_steps"):
        return  # past its last step torch goes up again, where jopt stays
    want, got = float(last.own("_last_lr")), _exactly(curve, epoch)
    base = saved.base() if "base_lrs" in saved.state else want
    if abs(got - want) <= 1e-6 * abs(want) + 1e-9 * abs(base):
        return
    fix = "torch overwrites an edit at its next step: build the schedule that is meant."
    if saved.name in _BUILDS_ON and got:
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
