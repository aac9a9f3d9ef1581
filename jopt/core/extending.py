"""A state for parameters that have gained leaves, or whose leaves have changed their optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, overload

from jopt.base import checked
from jopt.core.boxes import taken_off
from jopt.core.dealing import all_opened, outlined
from jopt.core.nested import flatten_dict
from jopt.core.paths import Path, shown
from jopt.core.spec import NODE_KEYS
from jopt.core.transform import State, Transform, check_transform
from jopt.core.tree import Layout, Tree

SHOWN = 12
"""How many leaves of one transform a printed report has."""


@dataclass(frozen=True)
class Extension:
    """What `jopt.extend(..., report=True)` changed; prints as a short table.

    **Attributes:**

    - `fresh`: for each transform, as `jopt.hyperparams` calls it, the leaves that start anew there:
      new ones, unfrozen ones, and those that another route had.
    - `dropped`: likewise the leaves whose state was given up.

    >>> import jax.numpy as jnp, jopt
    >>> params = {"kernel": jnp.ones((2, 3)), "head": jnp.ones((3, 2))}
    >>> old = jopt.route(jopt.adamw(), matrices=("kernel$", jopt.muon()))
    >>> new = jopt.route(jopt.adamw(), matrices=("kernel|head", jopt.muon()))
    >>> state, report = jopt.extend(new, old.init(params), params, report=True)
    >>> print(report)
    started anew   route/muon: head
    given up       route/adamw: head
    """

    fresh: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        lines = [*_listed("started anew", self.fresh), *_listed("given up", self.dropped)]
        return "\n".join(lines) or "nothing started anew"


def _listed(what: str, found: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for label, names in found.items():
        more = f", ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"{what:14} {label}: {', '.join(names[:SHOWN])}{more}"


@overload
def extend(tx: Transform, state: State, params: Tree) -> State: ...


@overload
def extend(tx: Transform, state: State, params: Tree, *, report: Literal[False]) -> State: ...


@overload
def extend(
    tx: Transform, state: State, params: Tree, *, report: Literal[True]
) -> tuple[State, Extension]: ...


@checked
def extend(
    tx: Transform, state: State, params: Tree, *, report: bool = False
) -> State | tuple[State, Extension]:
    """The state for parameters that have gained leaves, or whose groups or routes are others.

    New leaves get fresh slots and start at step one, as do unfrozen ones and those that another
    route had; every other leaf's slots, the counters and the numbers stay bit-equal. What frozen
    leaves had is given up.

    **Arguments:**

    - `tx`: the transform for the new parameters; it may differ from the old one in its groups,
      in its numbers and schedules, and in what goes where in `jopt.route`.
    - `state`: the old state.
    - `params`: the new parameters, all of them.
    - `report`: if `True` the result is a pair: the state, and an `Extension` that says which
      leaves started anew.

    **Raises:** `StateError` if the state knows leaves that are no longer there, or belongs to
    another transform.
    """
    check_transform("extend", tx)
    new = tx.extend(state, params)
    if not report:
        return new
    layout, leaves = tx.layout(params)
    old, bare = (all_opened(outlined(taken_off(x)[0])) for x in (state, new))
    places = {k: part.places(layout, leaves, bare[k]) for k, part in tx.parts.items()}
    before, after = flatten_dict(old), flatten_dict(bare)
    fresh: dict[str, set[str]] = {}
    for path, place in flatten_dict(places).items():
        if path not in before and place.index is not None:
            fresh.setdefault(_label(path)[0], set()).add(layout.names[place.index])
    dropped: dict[str, set[str]] = {}
    for path in (p for p in before if p not in after):
        label, rest = _label(path)
        name = _owner(layout, rest)
        if name is not None:
            dropped.setdefault(label, set()).add(name)
    return new, Extension(_sorted(fresh), _sorted(dropped))


def _label(path: Path) -> tuple[str, Path]:
    """The label of the node that a leaf of a state is in, and its path there."""
    labels, rest = path[:1], path[1:]
    while rest[:1] == ("inner",):
        labels, rest = (*labels, *rest[1:2]), rest[2:]
    return shown(labels), rest


def _owner(layout: Layout, path: Path) -> str | None:
    """The parameter that an array of a node belongs to, by what follows its slot's name."""
    if not path or path[0] in NODE_KEYS:
        return None
    named = zip(layout.paths, layout.names, strict=True)
    return next((name for own, name in named if path[1 : len(own) + 1] == own), None)


def _sorted(found: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {label: tuple(sorted(found[label])) for label in sorted(found)}
