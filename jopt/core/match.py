"""What selects leaves: a pattern that is searched in their names, or a predicate."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jopt.base import ConfigError


class Picker(abc.ABC):
    """A choice of leaves that looks at all of them at once; it may refuse them."""

    @abc.abstractmethod
    def pick(self, who: str, names: Sequence[str], leaves: Sequence[Any]) -> Sequence[bool]:
        """For each leaf whether it is chosen."""


Match = str | re.Pattern[str] | Callable[[str, jax.ShapeDtypeStruct], bool] | Picker


def check_match(who: str, what: str, match: Any) -> None:
    """Raise `ConfigError` for what selects no leaves; `what` is the argument that it was."""
    if isinstance(match, str):
        try:
            re.compile(match)
        except re.error as error:
            raise ConfigError(who, f"{match!r} is no regular expression: {error}") from None
    elif not isinstance(match, re.Pattern | Picker) and not callable(match):
        raise ConfigError(
            who,
            f"{what} selects leaves",
            expected="a regular expression, or a predicate of (path, leaf)",
            found=repr(match),
        )


def holds(match: Match, name: str, leaf: jax.ShapeDtypeStruct) -> bool:
    """Whether `match` selects the leaf called `name`."""
    return picked("", match, [name], [leaf])[0]


def picked(who: str, match: Match, names: Sequence[str], leaves: Sequence[Any]) -> Sequence[bool]:
    """For each of these leaves whether `match` selects it; `who` asks."""
    if isinstance(match, Picker):
        return match.pick(who, names, leaves)
    if isinstance(match, str | re.Pattern):
        return [re.search(match, name) is not None for name in names]
    return [bool(match(*pair)) for pair in zip(names, leaves, strict=True)]
