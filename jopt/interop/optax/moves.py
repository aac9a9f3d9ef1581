"""Which array of an optax state is which of a jopt state, and what to multiply it by.

One list of moves serves both directions: import follows it, export goes back along it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jopt.base import StateError
from jopt.checkpoint.leaves import join
from jopt.core.composed import composed
from jopt.core.groups import Labels, holds
from jopt.core.hyperparams import nodes
from jopt.core.nested import flatten_dict
from jopt.core.numbers import own_at, own_factors, own_numbers
from jopt.core.part import SpecPart
from jopt.core.paths import Path, shown
from jopt.core.spec import NODE_KEYS
from jopt.core.staged import check_bare, check_whole
from jopt.core.transform import Node, Part, State
from jopt.interop.optax.known import ADDED, SOURCES, SQUARED, STATES
from jopt.interop.optax.pairs import Pairs
from jopt.interop.optax.states import Contents, Held


@dataclass(frozen=True)
class Move:
    """One array: where it stands in jopt's state and in optax's, and what is different there.

    **Attributes:** `ours`; `theirs`, the place in optax's state; `factor`, jopt's number for a
    one there; `make`, what computes jopt's array where it is no copy of one of optax's; `told`,
    whether optax's state says it otherwise, or has no use for it; `into` and `back`, what makes
    jopt's array of optax's, and optax's of jopt's.
    """

    ours: Path
    theirs: Path | None
    factor: float = 1.0
    make: Callable[[], Any] | None = None
    told: bool = False
    into: Callable[[Any], Any] | None = None
    back: Callable[[Any], Any] | None = None


def match(
    who: str, parts: Mapping[str, Part], state: State, shapes: Mapping[Path, Any], theirs: Contents
) -> list[Move]:
    """The moves that fill the slots of `state`, a fresh one with the right counts and numbers."""
    return list(_Matching(who, shapes, theirs).walk(parts, state, ()))


class _Matching:
    def __init__(self, who: str, shapes: Mapping[Path, Any], theirs: Contents) -> None:
        self.who, self.shapes, self.theirs = who, shapes, theirs
        self.pairs = Pairs(who, theirs.slots, shapes)
        self.used: set[Path] = set()
        self.missing: list[str] = []
        self.frozen: set[Path] = set()

    def walk(self, parts: Mapping[str, Part], state: State, path: Path) -> Iterator[Move]:
        for label, part in parts.items():
            node, here = state[label], (*path, label)
            if isinstance(part, SpecPart):
                check_bare(self.who, part, "optax")
                check_whole(self.who, part, "optax", {shown(p): x for p, x in self.shapes.items()})
                off = part.freezes
                self.frozen |= {p for p in self.shapes if not off.isdisjoint(self._labels(part, p))}
            for entry in sorted(node.keys() - _OWN):
                for leaf in flatten_dict(node[entry]):
                    yield from self._move(part, node, entry, leaf, (*here, entry, *leaf))
            if part.wrapped:
                yield from self.walk(part.wrapped, node["inner"], (*here, "inner"))
        if not path:
            self._check()

    def _move(self, part: Part, node: Node, entry: str, leaf: Path, ours: Path) -> Iterator[Move]:
        if (part.name, entry) == ("nadam", "mu_product"):
            numbers = self._numbers(part, node, leaf)
            yield Move(ours, None, make=lambda: _momenta(numbers, int(node["count"])), told=True)
            return
        if entry == "steps" and isinstance(part, SpecPart):
            yield Move(ours, None, make=lambda: jnp.array(node["count"], copy=True), told=True)
            return
        if (part.name, entry) == ("accumulate", "rounds"):
            # Each round was a step of what is inside, which optax counts once for both.
            [n, *_] = (x["count"] for _, x in nodes(node["inner"]) if "count" in x)
            yield Move(ours, None, make=lambda: jnp.array(n, copy=True), told=True)
            return
        if (part.name, entry) == ("lookahead", "average") and self.theirs.own:
            # Where a period begins the slow weights are the parameters.
            slow = self.shapes if self.theirs.slow is None else self.theirs.slow
            yield Move(ours, None, make=lambda: slow[leaf], told=True)
            return
        if entry in ("key", "evaluations") and isinstance(part, SpecPart):
            yield Move(ours, None, make=lambda: jnp.array(node[entry][leaf[0]]), told=True)
            return
        if part.name == "lbfgs" and (made := self.pairs.maker(node, entry, leaf)):
            yield Move(ours, None, make=made, told=True)
            return
        if part.name == "adafactor" and entry != "mu":
            rows, columns, full = (self._take(part, f, leaf) for f in ("v_row", "v_col", "v"))
            if rows and columns and full:
                shape = tuple(self._param(leaf).shape)
                arrays = rows.value, columns.value, full.value
                value = _factored(self.who, leaf, entry, shape, *map(jnp.asarray, arrays))
                yield Move(ours, None, make=lambda: value)
                return
            held = None
        else:
            held = self._take(part, *self._there(part, entry, leaf))
        if held is None:
            kinds = [k for k in SOURCES.get(part.name, ()) if entry in STATES[k].values()]
            wanted = " or ".join(kinds) or "a state that jopt knows how to read"
            self.missing.append(f"{shown(ours)}: expected in {wanted}")
            return
        self._check_real(part, entry, leaf)
        factor = self._factor(part, node, entry, leaf, held)
        yield Move(ours, held.path, factor, None, False, *self._ways(part, node, entry, leaf))

    def _there(self, part: Part, entry: str, leaf: Path) -> tuple[str, Path]:
        """Which slot of which leaf it is in optax's state."""
        if (part.name, entry) == ("lbfgs", "t"):
            return "step_size", ()
        if part.name == "sm3":
            if entry == "mu":
                return "nu", leaf
            # The k-th axis from the last, in a list from the first.
            return "mu", (*leaf, str(len(self._param(leaf).shape) - int(entry.split("_")[1])))
        shared = isinstance(part, SpecPart) and any(s.name == entry for s in part.shared)
        return entry, () if shared else leaf

    def _ways(self, part: Part, node: Node, entry: str, leaf: Path) -> tuple[Any, Any]:
        if (part.name, entry) in SQUARED:
            return jnp.sqrt, jnp.square
        if entry == "ascended":  # of two updates, optax tells by a number which is next
            return (lambda x: jnp.asarray(x) != 0), None
        if part.name == "lbfgs":
            return self.pairs.ways(node, entry, leaf)
        if part.name == "sm3" and entry != "mu":
            shape = tuple(self._param(leaf).shape)
            axis = len(shape) - int(entry.split("_")[1])
            of = tuple(n if i == axis else 1 for i, n in enumerate(shape))
            return (lambda x: jnp.reshape(x, of)), (lambda x: jnp.reshape(x, -1))
        return None, None

    def _take(self, part: Part, slot: str, leaf: Path) -> Held | None:
        sources = set(ADDED.get(slot) or SOURCES.get(part.name, ()))
        again = part.name == "adafactor"  # three arrays there make up two here
        for held in self.theirs.slots:
            fits = held.slot == slot and held.leaf == leaf and held.kinds & sources
            if fits and (again or held.path not in self.used):
                self.used.add(held.path)
                return held
        return None

    def _factor(self, part: Part, node: Node, entry: str, leaf: Path, held: Held) -> float:
        if part.name == "accumulate" and entry == "sum":
            # optax keeps the mean so far.
            [micro] = [h.value for h in self.theirs.slots if h.slot == "micro"]
            return int(micro) or 1.0  # at the start of a round both are 0
        if entry == "nu_max":
            # optax's maximum is over corrected moments: as it will be corrected at the next step.
            b2 = self._numbers(part, node, leaf)["b2"]
            return float(-np.expm1((int(node["count"]) + 1) * np.log(b2))) if b2 > 0 else 1.0
        steps = isinstance(part, SpecPart) and part.spec.steps
        if steps and entry == "momentum_buffer" and held.closes and "TraceState" in held.kinds:
            # Nothing comes after this trace: the learning rate is in it, and the sign.
            rate = self._last_rate(part, node, leaf)
            if rate == 0:
                raise StateError(
                    self.who,
                    "optax's buffer has the learning rate in it, which is 0 here",
                    path=shown(held.path),
                    fix="Build tx with the learning rate that optax used last.",
                )
            return -1 / rate
        return 1.0

    def _numbers(self, part: Part, node: Node, leaf: Path) -> dict[str, float]:
        return self._composed(part, node, leaf, own_numbers(node))

    def _composed(self, part: Part, node: Node, leaf: Path, own: Any) -> dict[str, float]:
        mine = composed(self.who, own, own_factors(node), self._labels(part, leaf))
        return {name: float(value) for name, value in mine.items()}

    def _last_rate(self, part: Part, node: Node, leaf: Path) -> float:
        # The state has the rate of the step to come; a schedule knows that of the last one.
        if isinstance(part, SpecPart):
            last = max(int(node.get("count", 0)) - 1, 0)
            own = own_at(node, part.numbers, part.groups, last)
            return self._composed(part, node, leaf, own)["learning_rate"]
        return self._numbers(part, node, leaf)["learning_rate"]

    def _labels(self, part: Part, leaf: Path) -> Labels:
        groups = part.groups if isinstance(part, SpecPart) else {}
        name, shape = shown(leaf), self.shapes[leaf]
        return tuple(label for label, g in groups.items() if holds(g.match, name, shape))

    def _param(self, leaf: Path) -> Any:
        if leaf not in self.shapes:
            raise StateError(
                self.who,
                "the state has a leaf that is not among the parameters",
                path=shown(leaf),
                expected=", ".join(map(shown, self.shapes))[:200] or "no leaf",
            )
        return self.shapes[leaf]

    def _check_real(self, part: Part, entry: str, leaf: Path) -> None:
        slots = part.slots if isinstance(part, SpecPart) else ()
        squares = any(s.name == entry and not s.signed for s in slots)
        whole = not self.theirs.split
        if squares and whole and jnp.issubdtype(self._param(leaf).dtype, jnp.complexfloating):
            raise StateError(
                self.who,
                "optax squares a complex gradient whole, jopt its parts, as torch does",
                path=shown(leaf),
                expected="a real parameter, or optax.contrib.split_real_and_imaginary",
                found=self.shapes[leaf].dtype,
            )

    def _check(self) -> None:
        spare = [
            f"{shown(held.path)}: nothing here takes it"
            for held in self.theirs.slots
            if held.path not in self.used and held.leaf not in self.frozen
            # GaLore has an empty projector for what it does not project.
            if held.slot not in ADDED or np.size(held.value)
        ]
        if self.missing or spare:
            lines = [*_short(self.missing), *_short(spare), "It holds", *self.theirs.sketch]
            raise StateError(self.who, join("the optax state is not one of this transform", lines))


_OWN = NODE_KEYS


def _short(lines: list[str], most: int = 10) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"... {len(lines) - most} more"]


def _momenta(numbers: Mapping[str, float], count: int) -> Any:
    # torch's product of all momenta up to now, which optax's nadam has no use for. It is far
    # below what any float can hold long before the ten thousandth.
    steps = np.arange(1, min(count, 10_000) + 1, dtype=np.float64)
    momenta = numbers["b1"] * (1 - 0.5 * 0.96 ** (steps * numbers["momentum_decay"]))
    return jnp.asarray(np.prod(momenta))


def _factored(
    who: str, leaf: Path, entry: str, shape: Sequence[int], rows: Any, columns: Any, full: Any
) -> Any:
    """jopt's means over the last axis and the one before, from optax's over its two longest."""
    if entry == "nu" or tuple(full.shape) == tuple(shape):
        means = {"nu_row": -1, "nu_column": -2}
        return full if entry == "nu" else jnp.mean(full, means[entry], keepdims=True)
    second, longest = (int(i) - len(shape) for i in np.argsort(shape, kind="stable")[-2:])
    if {second, longest} != {-1, -2}:
        raise StateError(
            who,
            "optax factors the two longest axes, jopt the last two",
            path=shown(leaf),
            expected="a parameter whose last two axes are the longest",
            found=f"shape {tuple(shape)}",
        )
    axis = -1 if entry == "nu_row" else -2
    return jnp.expand_dims(rows if longest == axis else columns, axis)


def as_stored(who: str, path: Path, value: Any, like: Any) -> Any:
    """A copy of `value` in the dtype of `like`; refused if shapes differ or bits would be lost."""
    if tuple(value.shape) != tuple(like.shape):
        raise StateError(
            who,
            "an array of the state does not have the shape it should",
            path=shown(path),
            expected=tuple(like.shape),
            found=tuple(value.shape),
        )
    if not np.can_cast(value.dtype, like.dtype, "safe"):
        raise StateError(
            who,
            "an array of the state would lose bits",
            path=shown(path),
            expected=like.dtype,
            found=value.dtype,
        )
    return jnp.array(value, like.dtype, copy=True)
