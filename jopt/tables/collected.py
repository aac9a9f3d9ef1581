"""What is told of a transform: leaf by leaf, its numbers, and the sizes of what it keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jopt.base import StateError
from jopt.core.boxes import taken_off
from jopt.core.groups import DEFAULT, key_of
from jopt.core.hyperparams import hyperparams
from jopt.core.in_force import check_fit, init_numbers, taken_over
from jopt.core.nested import flatten_dict, lookup
from jopt.core.paths import Path, shown
from jopt.core.spec_parts import Located, spec_parts
from jopt.core.transform import Leaves, Transform, check_transform
from jopt.core.tree import Layout
from jopt.tables.text import plain

WHO = "summary"

TOLD = ("learning_rate", "weight_decay")
"""The numbers that each leaf's row tells, beside those that its groups set."""

NUMBERS = "numbers"
"""What sizes call the counts, the numbers and all else that belongs to no leaf."""

Share = dict[str, int]
"""Entries and bytes."""

InForce = dict[str, dict[str, dict[str, Any]]]
"""Numbers by node, group and name."""


@dataclass(frozen=True)
class Collected:
    """What `collected` gives; see `jopt.Summary` for what each is."""

    paths: tuple[Path, ...]
    leaves: list[dict[str, Any]]
    numbers: InForce
    scheduled: frozenset[tuple[str, str]]
    totals: dict[str, Share]


def collected(tx: Any, params: Any, state: Any) -> Collected:
    """Everything that a summary tells, as Python numbers and text."""
    check_transform(WHO, tx)
    layout, leaves = tx.layout(params)
    outline = jax.eval_shape(lambda xs: tx.init(layout.treedef.unflatten(xs)), leaves)
    located = [*spec_parts(tx.parts, layout, leaves)]
    if state is None:
        held, kept = outline, _with_first_numbers(taken_off(outline)[0], located)
    else:
        _check_state(tx, outline, state)
        held, kept = state, _with_next_numbers(taken_off(state)[0], located)
    numbers = _in_python(hyperparams(kept, tx, params))
    rows = [_row(*row) for row in zip(layout.names, leaves, strict=True)]
    steps = {here.part.spec.steps for here in located}
    for here in located:
        moves = here.part.spec.steps or (steps == {False} and bool(here.part.slots))
        _tell(rows, layout, here, numbers.get(shown(here.keys), {}), moves=moves)
    totals = _sizes(tx, layout, leaves, rows, taken_off(outline)[0], taken_off(held)[0])
    for i in layout.still:
        rows[i]["frozen"] = True
    scheduled = frozenset(
        (shown(here.keys), name)
        for here in located
        for own in lookup(kept, _within(here.keys)).get("schedules", {}).values()
        for name in own
    )
    return Collected(layout.paths, rows, numbers, scheduled, totals)


def _row(name: str, leaf: Any) -> dict[str, Any]:
    return {
        "path": name,
        "shape": tuple(leaf.shape),
        "dtype": str(leaf.dtype),
        **_share(leaf),
        "frozen": False,
        "optimizers": [],
        "groups": [],
        "numbers": {},
        "slots": {},
        "state_bytes": 0,
    }


def _tell(
    rows: Sequence[dict[str, Any]],
    layout: Layout,
    here: Located,
    numbers: Mapping[str, Any],
    *,
    moves: bool,
) -> None:
    """Into the rows of the leaves that a rule sees: their groups, their numbers, who moves them."""
    part, label = here.part, shown(here.keys)
    at = {path: i for i, path in enumerate(layout.paths)}
    lines = part.lines(here.layout, here.params)
    for n, labels in enumerate(part.labels(here.layout, here.params)):
        row = rows[at[here.layout.paths[n]]]
        if moves:
            line = lines.get(here.layout.names[n])
            row["optimizers"].append(f"{here.keys[-1]}: {line}" if line else here.keys[-1])
        row["groups"] += [held for held in labels if held not in row["groups"]]
        if part.freezes.isdisjoint(labels) and numbers:
            mine = numbers.get(key_of(labels), numbers[DEFAULT])
            names = [*TOLD, *(name for held in labels for name in part.groups[held].numbers)]
            if told := {name: mine[name] for name in names if name in mine}:
                row["numbers"][label] = told


def _sizes(
    tx: Transform,
    layout: Layout,
    leaves: Leaves,
    rows: Sequence[dict[str, Any]],
    outline: Mapping[str, Any],
    state: Mapping[str, Any],
) -> dict[str, Share]:
    """What the state takes, into the rows and, by slot, in all; `outline` says what is whose."""
    sums: dict[str, Share] = {}
    for label, part in tx.parts.items():
        places = flatten_dict(part.places(layout, leaves, outline[label]))
        arrays = flatten_dict(state[label])
        for path, place in places.items():
            whose = () if place.index is None else layout.paths[place.index]
            slot, share = _slot(label, path, place.index, whose), _share(arrays[path])
            _add(sums.setdefault(slot, {"entries": 0, "bytes": 0}), share)
            if place.index is not None:
                row = rows[place.index]
                row["state_bytes"] += share["bytes"]
                mine = row["slots"].setdefault(slot, {"dtype": "", "entries": 0, "bytes": 0})
                if share["entries"] > mine["entries"]:  # codes, not the scales beside them
                    mine["dtype"] = str(arrays[path].dtype)
                _add(mine, share)
    rest = sums.pop(NUMBERS, {"entries": 0, "bytes": 0})
    whole = {"entries": 0, "bytes": 0}
    for share in (*sums.values(), rest):
        _add(whole, share)
    params = {"entries": 0, "bytes": 0}
    for row in rows:
        _add(params, row)
    return {"parameters": params, **sums, NUMBERS: rest, "state": whole}


def _slot(label: str, path: Path, index: int | None, whose: Path) -> str:
    """The name of a slot: its node's, and the entry's under which the parameter's path begins."""
    keys = [label]
    while path[0] == "inner" and len(path) > 1:
        keys, path = [*keys, path[1]], path[2:]
    if index is None:
        return NUMBERS
    ends = (k for k in range(1, len(path) + 1) if whose and path[k : k + len(whose)] == whose)
    return shown((*keys, *path[: next(ends, 1)]))


def _add(share: Share, more: Mapping[str, Any]) -> None:
    for key in ("entries", "bytes"):
        share[key] += more[key]


def _share(x: Any) -> Share:
    entries = math.prod(x.shape)
    return {"entries": entries, "bytes": entries * x.dtype.itemsize}


def _within(keys: Path) -> Path:
    """Where the node with this label stands in a state."""
    return tuple(key for label in keys for key in ("inner", label))[1:]


def _with_first_numbers(state: Any, located: Sequence[Located]) -> Any:
    """The outline of a state with the numbers of a new one."""
    for here in located:
        part = here.part
        state = _put(state, _within(here.keys), init_numbers(part.spec, part.numbers, part.groups))
    return state


def _with_next_numbers(state: Any, located: Sequence[Located]) -> Any:
    """The state with the numbers that the next update uses."""
    for here in located:
        part, node = here.part, lookup(state, _within(here.keys))
        if "given" in node and node["given"].ndim == 1:  # of many runs at once each has its own
            check_fit(WHO, node, part.numbers, part.groups)
            state = _put(state, _within(here.keys), taken_over(node, part.numbers, part.groups))
    return state


def _put(state: Any, path: Path, entries: Mapping[str, Any]) -> Any:
    if not path:
        return {**state, **entries}
    return {**state, path[0]: _put(state[path[0]], path[1:], entries)}


def _check_state(tx: Transform, outline: Any, state: Any) -> None:
    tx.check_labels(state)
    expected, found = (flatten_dict(taken_off(x)[0]).keys() for x in (outline, state))
    if expected != found:
        path = min(expected ^ found)
        raise StateError(
            WHO,
            "this state was made by another configuration, or for other parameters",
            path=shown(path),
            expected="an array" if path in expected else "nothing",
            found="nothing" if path in expected else "an array",
            fix="If that is meant, carry it over: state = jopt.extend(tx, state, params).",
        )


def _in_python(numbers: Mapping[str, Any]) -> InForce:
    return {
        node: {group: {k: _value(x) for k, x in own.items()} for group, own in groups.items()}
        for node, groups in numbers.items()
    }


def _value(x: Any) -> Any:
    """The number, or a list for many runs; `None` for one that is not known here."""
    if isinstance(x, jax.core.Tracer | jax.ShapeDtypeStruct):
        return None
    found = np.asarray(x)
    return plain(found, found.shape)
