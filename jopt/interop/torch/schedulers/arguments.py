"""What torch's scheduler was built with, read back from its state dict.

torch's schedulers save everything they were given but functions, and but what `OneCycleLR` and
`SWALR` keep in the optimizer's parameter groups.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jopt.base import CheckpointError, ConfigError, plain

_SHARED = "base_lrs last_epoch _step_count _is_initial _get_lr_called_within_step _last_lr verbose"
BASE = frozenset(_SHARED.split())
_CYCLIC = "max_lrs total_size step_ratio mode gamma scale_mode cycle_momentum"
# What each class adds to BASE and always has.
KEYS = {
    "ChainedScheduler": "_schedulers",
    "ConstantLR": "factor total_iters",
    "CosineAnnealingLR": "T_max eta_min",
    "CosineAnnealingWarmRestarts": "T_0 T_i T_mult eta_min T_cur",
    "CyclicLR": _CYCLIC,
    "ExponentialLR": "gamma",
    "LambdaLR": "lr_lambdas",
    "LinearLR": "start_factor end_factor total_iters",
    "MultiStepLR": "milestones gamma",
    "MultiplicativeLR": "lr_lambdas",
    "OneCycleLR": "total_steps _schedule_phases _anneal_func_type cycle_momentum",
    "PolynomialLR": "total_iters power",
    "ReduceLROnPlateau": "mode factor patience threshold threshold_mode cooldown min_lrs eps best "
    "cooldown_counter num_bad_epochs",
    "SWALR": "_anneal_strategy anneal_epochs",
    "SequentialLR": "_milestones _schedulers last_epoch",
    "StepLR": "step_size gamma",
}
# What some states have beside that.
_MORE = {
    "CyclicLR": "use_beta1 base_momentums max_momentums _scale_fn_custom",
    "OneCycleLR": "use_beta1 anneal_func",
    "ReduceLROnPlateau": "default_min_lr mode_worse",
}


@dataclass(frozen=True)
class Saved:
    """A scheduler's state dict as one parameter group sees it, and what it does not hold."""

    name: str
    state: Mapping[str, Any]
    group: int = 0
    param_groups: Sequence[Mapping[str, Any]] | None = None
    base_lr: float | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """As errors call it."""
        return f"import_scheduler({self.name!r})"

    def check(self) -> None:
        """Raise `CheckpointError` unless this is a state dict of that class."""
        if self.name not in KEYS:
            raise ConfigError(
                "import_scheduler",
                f"no scheduler of torch is called {self.name!r}",
                expected=", ".join(KEYS),
            )
        if not isinstance(self.state, Mapping):
            raise CheckpointError(
                self.who, "a state dict is a dict", found=type(self.state).__name__
            )
        wanted = set(KEYS[self.name].split())
        allowed = wanted | BASE | set(_MORE.get(self.name, "").split())
        missing, unknown = sorted(wanted - set(self.state)), sorted(set(self.state) - allowed)
        if missing or unknown:
            kin = [n for n in KEYS if set(self.state) - BASE == set(KEYS[n].split()) - BASE]
            problem = f"it has no {missing[0]!r}" if missing else f"it has {unknown[0]!r}"
            raise CheckpointError(
                self.who,
                f"this is no state dict of {self.name}: {problem}",
                expected=", ".join(sorted(wanted)),
                found=", ".join(sorted(set(self.state) - BASE)) or "nothing of its own",
                fix=f"These are the keys of {' or '.join(kin)}." if kin else None,
            )

    def number(self, key: str) -> Any:
        """A number of all groups; a whole one as an int, as counts of steps are."""
        value = _plain(self.state[key])
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def own(self, key: str) -> Any:
        """This group's entry of a list with one for each group."""
        row = self.state.get(key)
        if not isinstance(row, list | tuple) or not -len(row) <= self.group < len(row):
            raise CheckpointError(
                self.who,
                f"{key} has no entry for parameter group {self.group}",
                found=repr(row),
            )
        return _plain(row[self.group])

    def in_group(self, key: str) -> Any:
        """What the scheduler has left in the optimizer's parameter group."""
        groups = self.param_groups
        if groups is None or self.group >= len(groups) or key not in groups[self.group]:
            raise ConfigError(
                self.who,
                f"torch keeps {key!r} in the optimizer's parameter groups",
                found="no param_groups=" if groups is None else f"no {key!r} in them",
                fix="Give param_groups=optimizer.state_dict() as it was saved with the scheduler.",
            )
        return _plain(groups[self.group][key])

    def base(self) -> float:
        """The base rate."""
        return float(self.own("base_lrs") if self.base_lr is None else self.base_lr)

    def function(self, name: str, saved: Any) -> Any:
        """A function of the user's, with the attributes it had if it is a callable object."""
        function = self.given.get(name)
        if isinstance(function, list | tuple):
            function = function[self.group]
        if function is None:
            raise ConfigError(
                self.who, "torch does not save functions", fix=f"Give {name}= as torch was given."
            )
        if isinstance(saved, Mapping) and saved:
            function = copy.copy(function)
            function.__dict__.update(saved)
        return function

    def child(self, kind: Any, state: Any) -> Saved:
        """One of several schedulers; `kind` is a name, or a name and what its dict lacks."""
        name, given = kind if isinstance(kind, tuple) and len(kind) == 2 else (kind, {})
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise ConfigError(
                self.who,
                "this is no scheduler",
                expected='a class name, or a pair such as ("LambdaLR", {"lr_lambda": function})',
                found=repr(kind),
            )
        made = Saved(name, state, self.group, self.param_groups, self.base_lr, given)
        made.check()
        return made

    def children(self) -> list[Saved]:
        """The schedulers within."""
        states, kinds = self.state["_schedulers"], self.given.get("schedulers")
        if kinds is None or len(kinds) != len(states):
            raise ConfigError(
                self.who,
                "torch does not save of which classes its schedulers are",
                expected=f"schedulers=[...] with {len(states)} class names",
                found="none" if kinds is None else repr(kinds),
            )
        return [self.child(kind, state) for kind, state in zip(kinds, states, strict=True)]


def _plain(value: Any) -> Any:
    return plain(value.item() if hasattr(value, "detach") and value.numel() == 1 else value)


def _function(saved: Saved) -> dict[str, Any]:
    kept = {k: v for k, v in saved.given.items() if k == "steps"}
    return {"lr_lambda": saved.function("lr_lambda", saved.own("lr_lambdas")), **kept}


def _milestones(saved: Saved) -> dict[str, Any]:
    marks = saved.state["milestones"]
    # A Counter, which JSON and msgpack turn into a dict, perhaps with keys that are strings.
    rows = (
        [int(k) for k, n in marks.items() for _ in range(n)] if hasattr(marks, "items") else marks
    )
    return {"milestones": sorted(int(m) for m in rows), "gamma": saved.number("gamma")}


def _cyclic(saved: Saved) -> dict[str, Any]:
    total, ratio = saved.number("total_size"), saved.number("step_ratio")
    up = round(total * ratio, 6)
    custom = saved.state.get("_scale_fn_custom")
    natural = "iterations" if saved.state["mode"] == "exp_range" else "cycle"
    own = custom is not None or saved.given.get("scale_fn") is not None
    if own or saved.state["scale_mode"] != natural:
        scale = {
            "scale_fn": saved.function("scale_fn", custom),
            "scale_mode": saved.state["scale_mode"],
        }
    else:
        scale = {"mode": saved.state["mode"], "gamma": saved.number("gamma")}
    momenta = {"cycle_momentum": bool(saved.state["cycle_momentum"])}
    if momenta["cycle_momentum"]:
        momenta |= {f"{end}_momentum": saved.own(f"{end}_momentums") for end in ("base", "max")}
    return {
        "base_lr": saved.base(),
        "max_lr": saved.own("max_lrs"),
        "step_size_up": up,
        "step_size_down": round(total - up, 6),
        **scale,
        **momenta,
    }


def _onecycle(saved: Saved) -> dict[str, Any]:
    phases, total = saved.state["_schedule_phases"], saved.number("total_steps")
    low, high, last = (saved.in_group(k) for k in ("initial_lr", "max_lr", "min_lr"))
    momenta = {"cycle_momentum": bool(saved.state["cycle_momentum"])}
    if momenta["cycle_momentum"]:
        momenta |= {k: saved.in_group(k) for k in ("base_momentum", "max_momentum")}
    return {
        "max_lr": high,
        "total_steps": total,
        "pct_start": min(1.0, (float(phases[0]["end_step"]) + 1) / total),
        "anneal_strategy": saved.state["_anneal_func_type"],
        "div_factor": high / low,
        "final_div_factor": low / last,
        "three_phase": len(phases) == 3,
        **momenta,
    }


def _plateau(saved: Saved) -> dict[str, Any]:
    same = "mode factor patience threshold threshold_mode cooldown eps"
    return {k: saved.number(k) for k in same.split()} | {"min_lr": saved.own("min_lrs")}


def _swa(saved: Saved) -> dict[str, Any]:
    over = saved.number("_step_count") > saved.number("anneal_epochs")
    known = saved.param_groups is not None or not over
    return {
        "swa_lr": saved.in_group("swa_lr") if known else saved.own("_last_lr"),
        "anneal_epochs": saved.number("anneal_epochs"),
        "anneal_strategy": saved.state["_anneal_strategy"],
    }


def _numbers(saved: Saved) -> dict[str, Any]:
    return {key: saved.number(key) for key in KEYS[saved.name].split()}


def _restarts(saved: Saved) -> dict[str, Any]:
    return {key: saved.number(key) for key in ("T_0", "T_mult", "eta_min")}


_READERS: dict[str, Callable[[Saved], dict[str, Any]]] = {
    "CosineAnnealingWarmRestarts": _restarts,
    "CyclicLR": _cyclic,
    "LambdaLR": _function,
    "MultiStepLR": _milestones,
    "MultiplicativeLR": _function,
    "OneCycleLR": _onecycle,
    "ReduceLROnPlateau": _plateau,
    "SWALR": _swa,
}
TAKES = {
    "ChainedScheduler": {"schedulers"},
    "CyclicLR": {"scale_fn"},
    "LambdaLR": {"lr_lambda", "steps"},
    "MultiplicativeLR": {"lr_lambda", "steps"},
    "ReduceLROnPlateau": {"nan"},
    "SequentialLR": {"schedulers"},
}


def arguments(saved: Saved) -> dict[str, Any]:
    """Torch's arguments for the scheduler, of the saved class, in this parameter group."""
    unknown = set(saved.given) - TAKES.get(saved.name, set())
    if unknown:
        raise ConfigError(
            saved.who,
            f"{min(unknown)!r} is in the state dict, or no argument of {saved.name}",
            expected=", ".join(sorted(TAKES.get(saved.name, ()))) or "no further argument",
        )
    return _READERS.get(saved.name, _numbers)(saved)
