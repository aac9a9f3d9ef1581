"""The state dict of one of torch's schedulers, every value checked as it is read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jopt.base import CheckpointError, ConfigError, plain
from jopt.interop._given import shown, wrong

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
    "OneCycleLR": "total_steps cycle_momentum",
    "PolynomialLR": "total_iters power",
    "ReduceLROnPlateau": "mode factor patience threshold threshold_mode cooldown min_lrs eps best "
    "cooldown_counter num_bad_epochs",
    "SWALR": "anneal_epochs",
    "SequentialLR": "_milestones _schedulers last_epoch",
    "StepLR": "step_size gamma",
}
# What some states have beside that, by the version of torch.
_MORE = {
    "CyclicLR": "use_beta1 base_momentums max_momentums _scale_fn_custom _scale_fn_ref scale_fn",
    "OneCycleLR": "use_beta1 _schedule_phases _anneal_func_type anneal_func step_size_up "
    "step_size_down",
    "ReduceLROnPlateau": "default_min_lr mode_worse",
    "SWALR": "_anneal_strategy anneal_func",
}
_WORDS = {"mode", "threshold_mode"}


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
        if not isinstance(self.name, str) or self.name not in KEYS:
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
        odd = map(str, set(self.state) - allowed)  # a pickle may have keys of any kind
        missing, unknown = sorted(wanted - set(self.state)), sorted(odd)
        if missing or unknown:
            kin = [n for n in KEYS if _fits(n, self.state)]
            problem = f"it has no {missing[0]!r}" if missing else f"it has {unknown[0]!r}"
            raise CheckpointError(
                self.who,
                f"this is no state dict of {self.name}: {problem}",
                expected=", ".join(sorted(wanted)),
                found=", ".join(sorted(map(str, set(self.state) - BASE))) or "nothing of its own",
                fix=f"These are the keys of {' or '.join(kin)}." if kin else None,
            )

        whole = isinstance(self.group, int) and not isinstance(self.group, bool)
        if not whole or self.group < 0:
            raise wrong(self.who, "group", "the number of a parameter group", "an int", self.group)
        groups = self.param_groups
        rows = isinstance(groups, list | tuple) and all(isinstance(g, Mapping) for g in groups)
        if groups is not None and not (rows and groups):
            raise ConfigError(
                self.who,
                "param_groups= are those of an optimizer",
                expected="optimizer.state_dict()",
                found=repr(groups)[:200],
            )
        if self.base_lr is not None and not isinstance(plain(self.base_lr), int | float):
            raise ConfigError(self.who, "base_lr is a number", found=repr(self.base_lr))

    def number(self, key: str) -> Any:
        """A number of all groups; a whole one as an int, as counts of steps are."""
        if key not in self.state:
            raise CheckpointError(self.who, f"the state dict has no {key!r}")
        value = self._checked(key, self.state[key], str if key in _WORDS else int | float)
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        return int(value) if whole else value

    def flag(self, key: str) -> bool:
        """A choice."""
        value = _plain(self.state.get(key))
        if not isinstance(value, bool):
            raise CheckpointError(self.who, f"{key} is no choice", found=shown(value))
        return value

    def own(self, key: str) -> Any:
        """This group's number of a list with one for each group."""
        return self._checked(key, self.entry(key), int | float)

    def entry(self, key: str) -> Any:
        """This group's entry, of any type."""
        row = self.state.get(key)
        if not isinstance(row, list | tuple) or not -len(row) <= self.group < len(row):
            raise CheckpointError(
                self.who,
                f"{key} has no entry for parameter group {self.group}",
                found=repr(row),
            )
        return row[self.group]

    def _checked(self, key: str, value: Any, kind: Any) -> Any:
        value = _plain(value)
        number = kind is not str
        if not isinstance(value, kind) or (number and isinstance(value, bool)):
            raise CheckpointError(
                self.who,
                f"{key} is no {'word' if kind is str else 'number'}",
                found=shown(value),
            )
        # No count is so large, and no int of jax's.
        return float(value) if isinstance(value, int) and abs(value) >= 2**53 else value

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
        return self._checked(f"{key} of the parameter group", groups[self.group][key], int | float)

    def base(self) -> float:
        """The base rate."""
        return float(self.own("base_lrs") if self.base_lr is None else self.base_lr)

    def strategy(self, key: str, function: str, words: Mapping[str, str]) -> Any:
        """A word; in files of older torch, and of its own reader, it is the name of a function."""
        if key in self.state:
            return self.state[key]
        found = self.state.get(function)
        name = called(found)
        if name in words:
            return words[name]
        if "anneal_strategy" in self.given:
            return self.given["anneal_strategy"]
        raise ConfigError(
            self.who,
            "it does not say how it anneals",
            found=f"{function}: {found!r}"
            if found is not None
            else f"neither {key} nor {function}",
            fix="Give anneal_strategy= as torch was given: 'cos' or 'linear'.",
        )

    def function(self, name: str, saved: Any) -> Any:
        """A function of the user's, with the attributes it had if it is a callable object."""
        function = self.given.get(name)
        if isinstance(function, list | tuple):
            function = function[self.group] if self.group < len(function) else None
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
        if not isinstance(states, list | tuple) or not states:
            raise CheckpointError(self.who, "it holds no schedulers", found=repr(states))
        if not isinstance(kinds, list | tuple) or len(kinds) != len(states):
            raise ConfigError(
                self.who,
                "torch does not save of which classes its schedulers are",
                expected=f"schedulers=[...] with {len(states)} class names",
                found="none" if kinds is None else shown(kinds),
            )
        return [self.child(kind, state) for kind, state in zip(kinds, states, strict=True)]

    def milestones(self) -> list[int]:
        """The steps between the schedulers within."""
        found, n = self.state["_milestones"], len(self.children()) - 1
        row = isinstance(found, list | tuple)
        marks: list[Any] = [plain(m) for m in found] if row else []
        if not row or len(marks) != n or not all(isinstance(m, int) for m in marks):
            raise CheckpointError(
                self.who,
                "between its schedulers are its milestones",
                expected=f"{n} whole numbers",
                found=repr(found),
            )
        return marks


def called(function: Any) -> str:
    """The last part of the name of a function, or of what stands for one that was not loaded."""
    text = getattr(function, "text", None) or getattr(function, "__name__", "")
    return str(text).rpartition(".")[2]


def _fits(name: str, state: Mapping[str, Any]) -> bool:
    own = set(KEYS[name].split()) - BASE
    return own <= set(state) - BASE <= own | set(_MORE.get(name, "").split())


def _plain(value: Any) -> Any:
    return plain(value.item() if hasattr(value, "detach") and value.numel() == 1 else value)
