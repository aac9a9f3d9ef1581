"""The schedule that a saved scheduler of torch's is, and the step at which it stands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jopt import schedules
from jopt.base import CheckpointError, ConfigError, JoptError, as_row, plain
from jopt.interop._given import shown, wrong
from jopt.interop.torch.schedulers.build import check_factor, scheduler
from jopt.interop.torch.schedulers.kind import exactly
from jopt.interop.torch.schedulers.kinds import KINDS
from jopt.interop.torch.schedulers.paced import paced
from jopt.interop.torch.schedulers.saved import Saved

_SHARED = "base_lrs last_epoch _step_count _is_initial _get_lr_called_within_step _last_lr verbose"
BASE = frozenset(_SHARED.split())
"""What state dicts of all classes have."""


def opened(name: Any, state: Any, group: Any, groups: Any, base_lr: Any, given: Any) -> Saved:
    """The state dict of a scheduler, or an error that says why it is none of that class."""
    if isinstance(groups, Mapping):
        groups = groups.get("param_groups") or ()
    saved = Saved(name, state, group, as_row(groups), base_lr, given)
    if not isinstance(name, str) or name not in KINDS:
        raise ConfigError(
            "import_scheduler",
            f"no scheduler of torch is called {name!r}",
            expected=", ".join(KINDS),
        )
    if not isinstance(state, Mapping):
        raise CheckpointError(saved.who, "a state dict is a dict", found=type(state).__name__)
    wanted = KINDS[name].keys
    odd = map(str, set(state) - wanted - BASE - KINDS[name].younger)  # keys may be of any kind
    missing, unknown = sorted(wanted - set(state)), sorted(odd)
    if missing or unknown:
        own = {n: kind.keys - BASE for n, kind in KINDS.items()}
        kin = [n for n, k in own.items() if k <= set(state) - BASE <= k | KINDS[n].younger]
        problem = f"it has no {missing[0]!r}" if missing else f"it has {unknown[0]!r}"
        raise CheckpointError(
            saved.who,
            f"this is no state dict of {name}: {problem}",
            expected=", ".join(sorted(wanted)),
            found=", ".join(sorted(map(str, set(state) - BASE))) or "nothing of its own",
            fix=f"These are the keys of {' or '.join(kin)}." if kin else None,
        )
    if isinstance(group, bool) or not isinstance(group, int) or group < 0:
        raise wrong(saved.who, "group", "the number of a parameter group", "an int", group)
    groups = saved.param_groups
    rows = isinstance(groups, list | tuple) and all(isinstance(g, Mapping) for g in groups)
    if groups is not None and not (rows and groups):
        raise ConfigError(
            saved.who,
            "param_groups= are those of an optimizer",
            expected="optimizer.state_dict()",
            found=repr(groups)[:200],
        )
    if base_lr is not None and not isinstance(plain(base_lr), int | float):
        raise ConfigError(saved.who, "base_lr is a number", found=repr(base_lr))
    return saved


def arguments(saved: Saved) -> dict[str, Any]:
    """Torch's arguments for the scheduler, of the saved class, in this parameter group."""
    taken = set(KINDS[saved.name].given.split())
    if unknown := set(saved.given) - taken:
        raise ConfigError(
            saved.who,
            f"{min(unknown)!r} is in the state dict, or no argument of {saved.name}",
            expected=", ".join(sorted(taken)) or "no further argument",
        )
    try:
        return KINDS[saved.name].arguments(saved)
    except JoptError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            saved.who, "what it says of itself is damaged", found=repr(error)
        ) from None


def children(saved: Saved) -> list[Saved]:
    """The schedulers within."""
    states, kinds = saved.state["_schedulers"], saved.given.get("schedulers")
    if not isinstance(states, list | tuple) or not states:
        raise CheckpointError(saved.who, "it holds no schedulers", found=repr(states))
    if not isinstance(kinds, list | tuple) or len(kinds) != len(states):
        raise ConfigError(
            saved.who,
            "torch does not save of which classes its schedulers are",
            expected=f"schedulers=[...] with {len(states)} class names",
            found="none" if kinds is None else shown(kinds),
        )
    found = []
    for kind, state in zip(kinds, states, strict=True):
        name, given = kind if isinstance(kind, tuple) and len(kind) == 2 else (kind, {})
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise ConfigError(
                saved.who,
                "this is no scheduler",
                expected='a class name, or a pair such as ("LambdaLR", {"lr_lambda": function})',
                found=repr(kind),
            )
        found.append(opened(name, state, saved.group, saved.param_groups, saved.base_lr, given))
    return found


def _milestones(saved: Saved) -> list[int]:
    """The steps between the schedulers within."""
    found, n = saved.state["_milestones"], len(children(saved)) - 1
    row = isinstance(found, list | tuple)
    marks: list[Any] = [plain(m) for m in found] if row else []
    if not row or len(marks) != n or not all(isinstance(m, int) for m in marks):
        raise CheckpointError(
            saved.who,
            "between its schedulers are its milestones",
            expected=f"{n} whole numbers",
            found=repr(found),
        )
    return marks


def curve(saved: Saved) -> tuple[Any, Any]:
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
    done = exactly(scheduler("SWALR", 0.0, **{**kwargs, "swa_lr": 1.0}), epoch)
    expected = base * (1 - done) + target * done
    if saved.base_lr is not None or done >= 1 or abs(expected - now) <= 1e-12 * abs(now):
        return base
    return float((now - done * target) / (1 - done))


def _sequential(saved: Saved) -> tuple[Any, Any]:
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


def _chained(saved: Saved) -> tuple[Any, Any]:
    arguments(saved)
    rows = children(saved)
    for child in rows if len(rows) > 1 else ():
        check_factor(child.name, arguments(child))
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
