"""The state dict of one of torch's schedulers, every value checked as it is read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jopt.base import CheckpointError, ConfigError, plain
from jopt.interop._given import shown

_WORDS = {"mode", "threshold_mode"}
_KINDS = {"number": int | float, "word": str, "choice": bool}


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

    def number(self, key: str) -> Any:
        """A number of all groups; a whole one as an int, as counts of steps are."""
        if key not in self.state:
            raise CheckpointError(self.who, f"the state dict has no {key!r}")
        value = self._checked(key, self.state[key], "word" if key in _WORDS else "number")
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        return int(value) if whole else value

    def flag(self, key: str) -> bool:
        """A choice."""
        chosen: bool = self._checked(key, self.state.get(key), "choice")
        return chosen

    def own(self, key: str) -> Any:
        """This group's number of a list with one for each group."""
        return self._checked(key, self.entry(key))

    def entry(self, key: str) -> Any:
        """This group's entry, of any type."""
        row = self.state.get(key)
        if not isinstance(row, list | tuple) or not -len(row) <= self.group < len(row):
            raise CheckpointError(
                self.who, f"{key} has no entry for parameter group {self.group}", found=repr(row)
            )
        return row[self.group]

    def _checked(self, key: str, value: Any, kind: str = "number") -> Any:
        value = plain(value.item() if hasattr(value, "detach") and value.numel() == 1 else value)
        number = kind == "number"
        if not isinstance(value, _KINDS[kind]) or (number and isinstance(value, bool)):
            raise CheckpointError(self.who, f"{key} is no {kind}", found=shown(value))
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
        return self._checked(f"{key} of the parameter group", groups[self.group][key])

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


def called(function: Any) -> str:
    """The last part of the name of a function, or of what stands for one that was not loaded."""
    text = getattr(function, "text", None) or getattr(function, "__name__", "")
    return str(text).rpartition(".")[2]
