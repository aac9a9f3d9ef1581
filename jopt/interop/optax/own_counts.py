"""Wrappers that count something else than steps: updates, or the steps of a period."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from jopt.base import StateError
from jopt.core.part import SpecPart
from jopt.core.paths import Path, shown
from jopt.core.transform import Node, Part, State
from jopt.core.tree import Tree
from jopt.interop.optax.known import COUNTING
from jopt.interop.optax.states import Contents


def fast_and_slow(params: Tree) -> tuple[Tree, Tree | None]:
    """The parameters, and the slow weights that optax's `LookaheadParams` holds beside."""
    if type(params).__name__ == "LookaheadParams" and hasattr(params, "_fields"):
        return params.fast, params.slow
    return params, None


class OwnCounts:
    """The counts that optax's wrappers keep of their own, in the order of their states."""

    def __init__(self, who: str, theirs: Contents) -> None:
        self.who = who
        self.left: dict[Path, tuple[frozenset[str], Any]] = dict(theirs.own)
        self.slow = theirs.slow

    def take(self, part: Part) -> tuple[Path, int] | None:
        """The next one for this part, if optax has one."""
        sources = COUNTING.get(part.name, ())
        for path, (kinds, value) in self.left.items():
            if kinds & set(sources):
                del self.left[path]
                return path, int(value)
        return None

    def told(self, part: Part, count: int | None) -> int | None:
        """What this part has counted, where that is known; `count` are the steps, if they are."""
        taken = self.take(part)
        if taken is None:
            return count
        path, value = taken
        if part.name != "lookahead":
            return value
        period = period_of(part)
        if value >= period:
            raise StateError(
                self.who,
                "optax is farther into its period than a period is long here",
                path=shown(path),
                expected=f"sync_period above {value}",
                found=f"sync_period={period}",
            )
        if value and self.slow is None:
            raise StateError(
                self.who,
                "lookahead's slow weights are in optax's parameters",
                path=shown(path),
                expected="0 steps since they were the parameters, or LookaheadParams",
                found=f"{value} steps",
                fix="Give the parameters as optax has them, as LookaheadParams.",
            )
        # Steps that were not taken count in optax's period, and not here.
        return value if count is None else max(count - (count - value) % period, value)

    def check_all_taken(self) -> None:
        """A `StateError` for what no part has taken."""
        for path, (kinds, _) in self.left.items():
            raise StateError(
                self.who,
                f"the optax state has a {' or '.join(sorted(kinds))}, and no part of tx takes it",
                path=shown(path),
                expected=" or ".join(k for k, of in COUNTING.items() if kinds & set(of)),
            )


def period_of(part: Part) -> int:
    """How many steps a period of lookahead has."""
    return int(part.options["sync_period"]) if isinstance(part, SpecPart) else 1


def counting(parts: Mapping[str, Part], state: State) -> Iterator[tuple[Part, Node]]:
    """The parts whose count is not of the steps, with their nodes."""
    for label, part in parts.items():
        if part.name in COUNTING and "count" in state[label]:
            yield part, state[label]
        if part.wrapped:
            yield from counting(part.wrapped, state[label]["inner"])


def fill_own(
    who: str, parts: Mapping[str, Part], state: State, theirs: Contents, values: Any
) -> None:
    """These counts, written into the leaves of an optax state."""
    own = OwnCounts(who, theirs)
    for part, node in counting(parts, state):
        if (taken := own.take(part)) is not None:
            n = int(node["count"])
            n = n % period_of(part) if part.name == "lookahead" else n
            values[taken[0]] = jnp.asarray(n, values[taken[0]].dtype)
    own.check_all_taken()
