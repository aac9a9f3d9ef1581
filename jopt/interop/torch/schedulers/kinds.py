"""What each argument of torch's schedulers has to be, so that a wrong one is told by its name."""

from __future__ import annotations

from typing import Any

from jopt.base import ConfigError, as_row
from jopt.interop._given import flag, number, one, word, wrong

_FLAGS = {"cycle_momentum", "three_phase"}
_FUNCTIONS = {"lr_lambda", "scale_fn"}
_ROWS = {"milestones", "schedulers"}
_WORDS = {"anneal_strategy", "mode", "scale_mode", "threshold_mode"}


def checked(who: str, name: str, value: Any, optional: bool = False) -> Any:
    """The value as Python's own, if it is of the kind that the argument wants."""
    if name == "optimizer" or (value is None and optional):
        return value
    value = one(who, name, value)
    if name in _ROWS:
        row = as_row(value)
        if isinstance(row, list | tuple):
            return row
        raise wrong(who, name, "a row of things", "a list or a tuple", value)
    if name not in _FUNCTIONS and isinstance(value, list | tuple):
        raise ConfigError(
            who,
            f"{name} has a value for each parameter group",
            expected="one value",
            found=repr(value),
            fix="Build a schedule for each group: jopt.group(pattern, learning_rate=...).",
        )
    if name in _FUNCTIONS:
        if callable(value) and not isinstance(value, type):
            return value
        raise wrong(who, name, "a function", "a function of a number", value)
    if name in _WORDS:
        return word(who, name, value)
    if name in _FLAGS:
        return flag(who, name, value)
    return number(who, name, value)
