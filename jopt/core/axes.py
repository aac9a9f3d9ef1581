"""How leaves hold their tensors: `axes=`, which says it by a pattern and a line like einops's.

"layer ..."                 the first axis numbers tensors, which have the axes that follow
"layer i o"                 the last two are a matrix, and what precedes numbers the matrices
"d (heads k)"               a matrix of d rows, of which heads and k together are the columns
"i layer o -> layer i o"    the same of axes in another order: the leaf's before the arrow
"d (3 e) -> 3 d e"          one axis that is three, by number
"""

from __future__ import annotations

import abc
import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax

from jopt.base import ConfigError, GroupError
from jopt.core.declared import Shape
from jopt.core.match import Match, holds, picked, settled_match
from jopt.core.spec import Spec
from jopt.core.stack import Stack
from jopt.core.tree import Layout

Pattern = str | re.Pattern[str] | Callable[..., bool]
"""Which leaves, by path: a pattern or a predicate."""


class AxesOf(abc.ABC):
    """Axes that are told by looking at all leaves at once."""

    @abc.abstractmethod
    def lines(self, names: Sequence[str], leaves: Sequence[Any]) -> Mapping[str, str]:
        """The line of each leaf that has one, by name; these are all leaves there are."""


StackAxes = Mapping[Pattern, str] | AxesOf | None
"""How the leaves that a pattern selects hold their tensors, see `jopt.Common`."""

REST = "..."
TOKEN = re.compile(r"\s*(\.\.\.|[()]|->|[^\W\d]\w*|\d+)\s*")
EXPECTED = "axes by name, as in 'layer ...', 'layer i o', 'd (heads k)', 'i layer o -> layer i o'"

Groups = tuple[tuple[str, ...], ...]
Pairs = tuple[tuple[Match, str], ...]
Axes = Pairs | AxesOf
Known = Mapping[str, Any]
"""All leaves there are, by name: those that a transform has sent another way, too."""


def check_axes(who: str, axes: Any) -> Pairs:
    """`axes=` as pairs of a pattern and its line, or a `ConfigError` for what is none."""
    if axes is None:
        return ()
    if not isinstance(axes, Mapping):
        raise ConfigError(
            who, "axes= takes a dict", expected="{pattern: axes}", found=repr(axes)[:100]
        )
    for match, text in axes.items():
        settled_match(who, "a key of axes=", match)
        if not isinstance(text, str):
            raise ConfigError(
                who,
                "axes=: no text says what the axes are",
                expected=EXPECTED,
                found=repr(text)[:100],
            )
        parsed(who, text)
    return tuple(axes.items())


def check_looks(spec: Spec, axes: Axes, looks: bool) -> None:
    """Raise `ConfigError` for axes of tables of which the rule sees only rows."""
    if axes and looks and spec.sparse == "rows":
        raise ConfigError(
            spec.name,
            "it sees the rows that have a gradient: a table is no stack",
            expected="no axes=",
            found=repr(axes)[:100],
        )


def stacks(
    who: str, axes: Axes, whole: frozenset[str], layout: Layout, leaves: Sequence[Any]
) -> dict[int, Stack]:
    """The leaves that are not one tensor as they are, and how they hold theirs.

    `whole`: the names of the slots that are of a leaf as it is.
    """
    if not axes or not leaves or layout.stands_for_all:
        return {}
    shapes = tuple(None if x is None else (tuple(x.shape), x.dtype) for x in leaves)
    if isinstance(axes, AxesOf):
        found = _told(who, axes, layout, shapes)
    else:
        found = _stacks(who, axes, layout.names, shapes)
    return {i: replace(stack, whole=whole) for i, stack in found.items()}


def stack_at(
    who: str, axes: Axes, whole: frozenset[str], name: str, leaf: Any, known: Known
) -> Stack | None:
    """The same of one leaf."""
    shape = jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
    if isinstance(axes, AxesOf):
        said = axes.lines([*known], [*known.values()]).get(name)
    else:
        said = next((text for match, text in axes if holds(match, name, shape)), None)
    stack = None if said is None else stack_of(who, name, shape.shape, said)
    return None if stack is None or stack.plain else replace(stack, whole=whole)


def _told(who: str, axes: AxesOf, layout: Layout, shapes: Any) -> dict[int, Stack]:
    """The same where axes are told by all leaves together."""
    own = [x or (s.shape, s.dtype) for x, s in zip(shapes, layout.shapes or shapes, strict=True)]
    around = layout.known or dict(
        zip(layout.names, (jax.ShapeDtypeStruct(*x) for x in own), strict=True)
    )
    said = axes.lines([*around], [*around.values()])
    found = {
        i: stack_of(who, name, own[i][0], said[name])
        for i, name in enumerate(layout.names)
        if name in said
    }
    return {i: stack for i, stack in found.items() if not stack.plain}


@functools.lru_cache(maxsize=256)
def _stacks(
    who: str, axes: Pairs, names: tuple[str, ...], shapes: tuple[tuple[Shape, Any] | None, ...]
) -> dict[int, Stack]:
    there = [i for i, x in enumerate(shapes) if x is not None]
    leaves = [jax.ShapeDtypeStruct(*x) for x in shapes if x is not None]
    said: dict[int, str] = {}
    for match, text in axes:
        chosen = picked(who, match, [names[i] for i in there], leaves)
        mine = [i for i, has in zip(there, chosen, strict=True) if has]
        if not mine and len(there) == len(shapes):
            raise GroupError(
                who,
                f"axes= {text!r} matches no leaf",
                expected=f"a leaf that {match!r} matches",
                found="leaves " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else ""),
                fix="Patterns are searched in the whole path; fix it or drop the entry.",
            )
        for i in mine:
            if said.setdefault(i, text) != text:
                raise ConfigError(
                    who,
                    "axes= says two things about one leaf",
                    path=names[i],
                    expected="one entry that matches it",
                    found=f"{said[i]!r} and {text!r}",
                )
    sizes = dict(zip(there, leaves, strict=True))
    found = {i: stack_of(who, names[i], sizes[i].shape, text) for i, text in said.items()}
    return {i: stack for i, stack in found.items() if not stack.plain}


@functools.lru_cache(maxsize=256)
def parsed(who: str, text: str) -> tuple[Groups, Groups]:
    """The axes of the leaf, each as what it is split into, and the axes that it is seen with."""
    left, arrow, right = text.partition("->")
    seen = _groups(who, text, right if arrow else left)
    held = _groups(who, text, left) if arrow else tuple((n,) for group in seen for n in group)
    problem = None
    names = [n for group in seen for n in group]
    before = [n for group in held for n in group]
    if not names:
        problem = "there are no axes"
    elif len(set(names)) < len(names) or len(set(before)) < len(before):
        problem = "an axis stands there twice"
    elif set(names) != set(before):
        problem = "the axes before and behind the arrow are not the same"
    elif any(REST in group and len(group) > 1 for group in (*held, *seen)):
        problem = "'...' stands within a group"
    elif REST in names and seen[-1] != (REST,):
        problem = "'...' is the axes of a tensor, and stands last"
    elif any(sum(not n.isdigit() for n in group) > 1 for group in held):
        problem = "an axis is split into parts of unknown size"
    if problem:
        raise ConfigError(who, f"axes=: {problem}", expected=EXPECTED, found=repr(text)[:100])
    return held, seen


def _groups(who: str, text: Any, part: str) -> Groups:
    """`"d (heads k)"` as `(("d",), ("heads", "k"))`."""
    groups: list[tuple[str, ...]] = []
    inside: list[str] | None = None
    at = 0
    while at < len(part):
        token = TOKEN.match(part, at)
        word = token[1] if token else ""
        nested = word == "(" and inside is not None
        if token is None or word == "->" or nested or (word == ")" and inside is None):
            inside = []
            break
        at = token.end()
        if word == "(":
            inside = []
        elif word == ")" and inside is not None:
            groups.append(tuple(inside))
            inside = None
        elif inside is not None:
            inside.append(word)
        else:
            groups.append((word,))
    if inside is not None or not all(groups) or not isinstance(text, str):
        raise ConfigError(
            who, "axes=: this names no axes", expected=EXPECTED, found=repr(text)[:100]
        )
    return tuple(groups)


def stack_of(who: str, path: str, shape: Shape, text: str) -> Stack:
    """How a leaf of this shape holds its tensors; `ConfigError` if it does not fit the line."""
    held, seen = parsed(who, text)
    rest = len(shape) - len(held) + 1 if (REST,) in held else 0
    if rest < 0 or (rest == 0 and (REST,) not in held and len(held) != len(shape)):
        at_least = "at least " if (REST,) in held else ""
        count = len(held) - bool(at_least)
        raise ConfigError(
            who,
            "axes= does not fit a leaf",
            path=path,
            expected=f"{at_least}{count} axes, for {text!r}",
            found=f"shape {shape}",
        )
    unnamed = tuple((f"{REST}{n}",) for n in range(rest))
    held, seen = (
        tuple(itertools.chain(*(unnamed if g == (REST,) else (g,) for g in groups)))
        for groups in (held, seen)
    )
    pieces, homes, names = [], [], []
    for axis, (group, size) in enumerate(zip(held, shape, strict=True)):
        known = math.prod(int(n) for n in group if n.isdigit())
        free = not all(n.isdigit() for n in group)
        if size % max(known, 1) or (not free and known != size) or known == 0:
            raise ConfigError(
                who,
                f"axes=: {known} does not divide an axis" if free else "axes=: another size",
                path=path,
                expected=f"{'a multiple of ' if free else ''}{known} in axis {axis}, for {text!r}",
                found=f"shape {shape}",
            )
        for name in group:
            pieces.append(int(name) if name.isdigit() else size // known)
            homes.append(axis)
            names.append(name)
    tensor = rest if (REST,) in parsed(who, text)[1] else 2
    batch, groups = (seen[:-tensor], seen[-tensor:]) if tensor else (seen, ())
    where = {name: a for a, name in enumerate(names)}
    return Stack(
        shape,
        tuple(pieces),
        tuple(homes),
        tuple(where[n] for group in batch for n in group),
        tuple(tuple(where[n] for n in group) for group in groups),
        text=text,
    )
