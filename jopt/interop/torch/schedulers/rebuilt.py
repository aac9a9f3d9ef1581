"""The schedule that a saved scheduler of torch's is, and the step at which it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jopt import schedules
from jopt.base import CheckpointError, ConfigError, JoptError, as_row, plain
from jopt.interop._given import known, shown, wrong
from jopt.interop.torch.schedulers.build import scheduler
from jopt.interop.torch.schedulers.kind import KINDS
from jopt.interop.torch.schedulers.saved import Saved

_SHARED = "base_lrs last_epoch _step_count _is_initial _get_lr_called_within_step _last_lr verbose"
BASE = frozenset(_SHARED.split())
"""What state dicts of all classes have."""


def opened(name: Any, state: Any, group: Any, groups: Any, base_lr: Any, given: Any) -> Saved:
    """The state dict of a scheduler, or an error that says why it is none of that class."""
    if isinstance(groups, Mapping):
        groups = groups.get("param_groups") or ()
    saved = Saved(name, state, group, as_row(groups), base_lr, given)
    known("import_scheduler", "scheduler", name, KINDS)
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


def curve(saved: Saved) -> tuple[Any, Any]:
    """The schedule of torch's own steps, and at which of them it stands."""
    kind = KINDS[saved.name]
    if kind.within:
        return kind.within.read(saved)
    kwargs = arguments(saved)
    if kwargs.get("total_iters") == 0:
        factor = kwargs.get("start_factor", kwargs.get("factor", 1.0))
        return schedules.constant(saved.base() * factor), saved.number("last_epoch")
    epoch = kind.stands(saved)
    return scheduler(saved.name, kind.began(saved, kwargs, epoch), **kwargs), epoch
