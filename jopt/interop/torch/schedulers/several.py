"""The classes of torch's schedulers that hold others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jopt import schedules
from jopt.base import CheckpointError, ConfigError, plain
from jopt.interop.torch.schedulers.build import scheduler
from jopt.interop.torch.schedulers.kind import ALONE, KINDS, Kind, Named, Within, exactly, nothing
from jopt.interop.torch.schedulers.names import named
from jopt.interop.torch.schedulers.paced import paced
from jopt.interop.torch.schedulers.rebuilt import arguments, children, curve
from jopt.interop.torch.schedulers.saved import Saved
from jopt.schedules import Plateau, Schedule

Child = Any  # a jopt schedule, or a pair of torch's class name and arguments
Config = Mapping[str, Any]


def _child(who: str, child: Child, lr: Any) -> Any:
    if isinstance(child, Plateau):
        raise ConfigError(f"torch.{who}", ALONE)
    match child:
        case tuple((str(name), dict(kwargs))):
            return _child(who, scheduler(name, lr, **kwargs), lr)
    if callable(child):
        return child
    raise ConfigError(
        f"torch.{who}",
        "this is no scheduler",
        expected='a jopt schedule, or a pair such as ("StepLR", {"step_size": 30})',
        found=repr(child)[:200],
    )


def _sequence(lr: Any, schedulers: Sequence[Child], milestones: Sequence[int]) -> Schedule:
    return schedules.join([_child("SequentialLR", c, lr) for c in schedulers], milestones)


def _tell_sequence(name: str, config: Config, schedule: Any, wanted: Any) -> Named:
    parts = config["schedules"]
    if wanted is None:  # a line leaves it open; all the others of torch's have one base rate
        alone = [named(p) for p in parts]
        fixed = [n.base for n in alone if n.name != "LinearLR"]
        wanted = fixed[0] if fixed else max(n.base for n in alone)
    children = [named(p, wanted) for p in parts]
    for i, child in enumerate(children):
        first = not i and child.name == "MultiplicativeLR"
        if child.every != 1 or child.shift or not (KINDS[child.name].child or first):
            raise nothing(f"torch's SequentialLR does not restart {parts[i]!r}", schedule)
    arguments = {"schedulers": children, "milestones": list(config["boundaries"])}
    return Named("SequentialLR", wanted, arguments)


def _milestones(saved: Saved) -> list[int]:
    """The steps between the schedulers within."""
    found, n = saved.state["_milestones"], len(children(saved)) - 1
    marks: list[Any] = [plain(m) for m in found] if isinstance(found, list | tuple) else [None]
    if len(marks) != n or not all(isinstance(m, int) for m in marks):
        problem, wanted = "between its schedulers are its milestones", f"{n} whole numbers"
        raise CheckpointError(saved.who, problem, expected=wanted, found=repr(found))
    return marks


def _read_sequence(saved: Saved) -> tuple[Any, Any]:
    arguments(saved)  # to refuse what it does not take
    marks = _milestones(saved)
    epoch, starts = saved.number("last_epoch"), [0, *marks]
    parts: list[Any] = []
    for i, child in enumerate(children(saved)):
        if child.name == "MultiplicativeLR" and parts:  # alone of all it does not start anew
            reached = exactly(schedules.join(parts, marks[: i - 1]), starts[i] - 1)
            if "_is_initial" in child.state:  # newer torch multiplies by f(0) here
                reached *= float(child.function("lr_lambda", child.entry("lr_lambdas"))(0))
            child = replace(child, param_groups=None, base_lr=reached)
        part, stands = curve(child)
        # Within another, torch's sequence may run a step ahead of it.
        ahead = stands - (epoch - starts[i]) if i == bisect_right(marks, epoch) else 0
        parts.append(paced(part, shift=ahead) if ahead else part)
    return schedules.join(parts, marks), epoch


def _chain(lr: Any, schedulers: Sequence[Child], optimizer: Any = None) -> Schedule:
    made = [_child("ChainedScheduler", c, 1.0 if i else lr) for i, c in enumerate(schedulers)]
    for child in schedulers if len(schedulers) > 1 else ():
        if isinstance(child, tuple):
            _check_factor(*child)
    if schedulers and not isinstance(schedulers[0], tuple):
        made.insert(0, schedules.constant(lr))
    return schedules.product(*made)


def _check_factor(name: str, kwargs: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a scheduler that no others can be chained with."""
    factors = [known for known, kind in KINDS.items() if kind.multiplies]
    if name not in factors or kwargs.get("eta_min"):
        raise ConfigError(
            "torch.ChainedScheduler",
            f"{name} does not multiply the rate by a factor of its own: torch's result "
            "depends on the order of the schedulers and is no function of the step",
            expected=", ".join(factors) + "; eta_min=0",
            fix="Say what is meant with jopt.schedules.product, join or warmup.",
        )


def _tell_chain(name: str, config: Config, schedule: Any, wanted: Any) -> Named:
    base, children = 1.0, []
    for part in config["schedules"]:
        value = plain(part)
        if isinstance(value, int | float):
            base *= value
            continue
        child = named(part)
        factor = KINDS[child.name].multiplies and child.name != "ChainedScheduler"
        if not factor or child.arguments.get("eta_min") or child.every != 1:
            raise nothing(f"torch's ChainedScheduler does not multiply by {part!r}", schedule)
        base *= child.base
        children.append(child)
    if not children:
        return named(schedules.constant(base))
    return Named("ChainedScheduler", base, {"schedulers": children})


def _read_chain(saved: Saved) -> tuple[Any, Any]:
    arguments(saved)
    rows = children(saved)
    for child in rows if len(rows) > 1 else ():
        _check_factor(child.name, arguments(child))
    # The first has the rate, the others multiply it.
    found = [curve(replace(child, base_lr=1.0) if i else child) for i, child in enumerate(rows)]
    epochs = [epoch for _, epoch in found]
    if len(set(epochs)) > 1:
        raise CheckpointError(
            saved.who,
            "its schedulers stand at different steps",
            found=", ".join(f"{c.name} at {e}" for c, e in zip(rows, epochs, strict=True)),
        )
    return found[0] if len(rows) == 1 else (schedules.product(*(c for c, _ in found)), epochs[0])


SEVERAL = {
    "ChainedScheduler": Kind(
        schedules.product,
        "schedulers= optimizer=",
        defaults={"optimizer": None},
        state="_schedulers",
        given="schedulers",
        multiplies=True,
        child=False,
        read=lambda saved: {},  # those within have the arguments
        within=Within(_chain, _tell_chain, _read_chain),
    ),
    "SequentialLR": Kind(
        schedules.join,
        "schedulers= milestones=",
        state="_milestones _schedulers last_epoch",
        given="schedulers",
        child=False,
        read=lambda saved: {},
        within=Within(_sequence, _tell_sequence, _read_sequence),
    ),
}
