"""What an optax state holds, read without optax.

An optax state is nested tuples of NamedTuples. flax and orbax turn these into dicts of their
fields and lists into dicts of indices, so a state is known by the names of its types where
it still has them, and by the names of its fields where not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jopt.base import StateError
from jopt.checkpoint.leaves import children, flatten, join
from jopt.core.paths import Path, shown
from jopt.core.tree import Tree
from jopt.interop.optax.known import COUNT, FRESH, IGNORED, INNER, NEXT, NUMBERS, OWN, STATES


@dataclass(frozen=True)
class Held:
    """A value in an optax state.

    **Attributes:** `kinds`: the states it may be part of; `slot`: the jopt slot it belongs to;
    `leaf`: the path of its parameter; `path`: where it stands; `value`; `closes`: whether its
    state is the last of a chain, so that whatever scales updates comes before it.
    """

    kinds: frozenset[str]
    slot: str
    leaf: Path
    path: Path
    value: Any
    closes: bool


@dataclass
class Contents:
    """All that an optax state holds, sorted, and a sketch of it for errors."""

    slots: list[Held] = field(default_factory=list)
    counts: dict[Path, Any] = field(default_factory=dict)
    ahead: set[Path] = field(default_factory=set)  # the counts that are of the step to come
    fresh: dict[Path, Any] = field(default_factory=dict)
    own: dict[Path, tuple[frozenset[str], Any]] = field(default_factory=dict)
    slow: dict[Path, Any] | None = None  # lookahead's slow weights, which are no state there
    numbers: dict[Path, Any] = field(default_factory=dict)
    split: bool = False  # whether there were pairs of arrays for complex parameters
    sketch: list[str] = field(default_factory=list)


def read(who: str, state: Tree) -> Contents:
    """Everything in `state`; a `StateError` that shows its structure if some is not known."""
    contents = Contents(sketch=sketch(who, state))

    def visit(node: Tree, path: Path, last: bool, chained: bool) -> None:
        kids = _kids(who, node)
        if not kids and (node is None or _is_container(node)):
            return
        kinds = _kinds(node, kids)
        if kinds:
            fields = STATES[next(iter(kinds))]
            # What is outside comes first, as in jopt's states.
            for name, kid in sorted(kids.items(), key=lambda item: fields[item[0]] == INNER):
                take(kinds, fields[name], name, kid, (*path, name), last, chained)
            return
        if not kids or _kind(node):
            raise unknown(who, state, path)
        *_, final = kids
        for name, kid in kids.items():
            visit(kid, (*path, name), last and name == final, chained or len(kids) > 1)

    def take(
        kinds: frozenset[str],
        role: str,
        name: str,
        kid: Tree,
        path: Path,
        last: bool,
        chained: bool,
    ) -> None:
        if role == INNER and name in ("inner_states", "hyperparams_states"):
            for label, inner in _kids(who, kid).items():  # side by side, not one after another
                visit(inner, (*path, label), last, chained)
        elif role == INNER:
            visit(kid, path, last, chained)
        elif role in (COUNT, NEXT):
            contents.counts[path] = kid
            contents.ahead |= {path} if role == NEXT else set()
        elif role == OWN:
            contents.own[path] = kinds, kid
        elif role == FRESH:
            contents.fresh[path] = kid
        elif role == NUMBERS:
            contents.numbers |= {(*path, k): v for k, v in _kids(who, kid).items()}
        elif role != IGNORED:
            for leaf, value in flatten(who, kid).items():
                if value is None or isinstance(value, dict):  # a leaf that is masked out
                    continue
                if not hasattr(value, "shape"):
                    raise unknown(who, state, (*path, *leaf))
                closes = last and chained
                contents.slots.append(Held(kinds, role, leaf, (*path, *leaf), value, closes))

    visit(state, (), last=True, chained=False)
    return contents


def unknown(who: str, state: Tree, path: Path) -> StateError:
    """The error for a place in an optax state that jopt does not know."""
    problem = join("this optax state is not understood; it holds", sketch(who, state))
    return StateError(
        who,
        problem,
        path=shown(path),
        expected=", ".join(k for k in STATES if k != "MaskedNode"),
        fix="Give the state of the optimizer itself, without what jopt does not have.",
    )


def sketch(who: str, state: Tree) -> list[str]:
    """One line for each state within an optax state: its path, its type, its fields."""
    lines: list[str] = []

    def visit(node: Tree, path: Path) -> None:
        kids = _kids(who, node)
        kinds = _kinds(node, kids)
        name = _kind(node) or " or ".join(sorted(kinds))
        where = shown(path) or "(all of it)"
        if name:
            lines.append(f"{where}: {name}({', '.join(kids)})" if kids else f"{where}: {name}")
        elif not kids:
            nothing = node is None or _is_container(node)
            lines.append(f"{where}: {'nothing' if nothing else _said(node)}")
        inner = STATES[next(iter(kinds))] if kinds else dict.fromkeys(kids, INNER)
        if kinds or not _kind(node):
            for key, kid in kids.items():
                if inner[key] == INNER:
                    visit(kid, (*path, key))

    visit(state, ())
    return lines if len(lines) <= _MOST else [*lines[:_MOST], f"... {len(lines) - _MOST} more"]


_MOST = 40


def _kids(who: str, node: Tree) -> dict[str, Tree]:
    names, kids, _ = children(who, node)
    if not names:
        held = kids[0] if kids else node
        return {} if held is node else _kids(who, held)
    found = dict(zip(names, kids, strict=True))
    if all(name.isdecimal() for name in names):  # a sequence that became a dict
        return {name: found[name] for name in sorted(names, key=int)}
    return found


def _kind(node: Tree) -> str:
    return type(node).__name__ if hasattr(node, "_fields") else ""


def _is_container(node: Tree) -> bool:
    return isinstance(node, tuple | list | Mapping)


def _kinds(node: Tree, kids: Mapping[str, Tree]) -> frozenset[str]:
    own, names = _kind(node), set(kids)
    if own in STATES:
        return frozenset({own}) if set(STATES[own]) >= names else frozenset()
    if own or not names:
        return frozenset()
    return frozenset(_like(names))


def _like(names: set[str]) -> Iterator[str]:
    for kind, fields in STATES.items():
        optional = {"skip_state"}  # usually empty, and then not everything restores it
        if fields and names <= set(fields) and names >= set(fields) - optional:
            yield kind


def _said(node: Tree) -> str:
    dtype, shape = getattr(node, "dtype", None), getattr(node, "shape", None)
    return f"{type(node).__name__}" if dtype is None else f"{dtype} {tuple(shape or ())}"
