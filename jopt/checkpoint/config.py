"""What about a transform a checkpoint depends on: static choices, slots and groups, no numbers.

Numbers are in the state, where they can be edited and scheduled, so they are no difference.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jopt.base import LINE, CheckpointError, plain, printable
from jopt.checkpoint.manifest import MAX_LIST
from jopt.core import Group, Times, Transform
from jopt.core.part import SpecPart
from jopt.core.spec import Spec
from jopt.core.transform import Part


@dataclass(frozen=True)
class Mismatch:
    """What is wrong with the transform of a checkpoint, in the words of an error."""

    problem: str
    lines: tuple[str, ...] = ()
    expected: str | None = None
    found: str | None = None
    fix: str | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """The same as lines of a report."""
        return self.lines or (self.problem,)


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def describe(who: str, tx: Any) -> dict[str, Any] | None:
    """What a manifest says about a transform: how it prints, and its configuration."""
    if tx is None:
        return None
    if not isinstance(tx, Transform):
        raise CheckpointError(
            who, "tx= takes a transform", expected="a jopt.Transform", found=type(tx).__name__
        )
    return {"config": configuration(tx), "repr": _ADDRESS.sub("", repr(tx))}


def configuration(tx: Transform) -> dict[str, Any]:
    """Each part by its label, as plain data."""
    return {label: _part(part) for label, part in tx.parts.items()}


def mismatch(who: str, tx: Any, recorded: Mapping[str, Any] | None) -> Mismatch | None:
    """How the recorded transform is configured otherwise than `tx`; `None` if it is not."""
    mine = describe(who, tx)
    if mine is None:
        return None
    if recorded is None:
        return Mismatch(
            "the checkpoint does not say which transform its state belongs to",
            expected=mine["repr"],
            fix="Load without tx=; pass tx= when saving to have this check.",
        )
    if mine["config"] == recorded["config"]:
        return None
    differences = differing(mine["config"], recorded["config"])
    stored = any("storage" in where.split("/") for where, _, _ in differences)
    convert = "For another state_dtype, load with the one that was saved, then jopt.convert_state."
    return Mismatch(
        "another configuration of the transform made this checkpoint",
        tuple(
            f"{printable(where, LINE)}: expected {want}, found {have}"
            for where, want, have in differences
        ),
        expected=mine["repr"],
        found=printable(recorded["repr"], 2000),
        fix="Build the transform as it was. Numbers may differ; these choices may not. "
        + (f"{convert} " if stored else "")
        + "If the change is meant, load without tx=, or take what fits with strict=False.",
    )


def _part(part: Part) -> dict[str, Any]:
    said: dict[str, Any] = {"transform": part.name}
    if isinstance(part, SpecPart):
        own = part.spec.by_name  # a number that is switched off (None) is a choice, too
        chosen = [(k, v) for k, v in part.frozen_options if not _is_late(part.spec, k, v)]
        said["options"] = {k: _plain(v) for k, v in chosen if k not in own}
        said["switched_off"] = [k for k, _ in chosen if k in own]
        said["slots"] = sorted(slot.name for slot in (*part.slots, *part.shared))
        said["storage"] = part.store.config
        if part.ending.stages:
            said["stages"] = [
                {"stage": stage.name, **{k: _plain(v) for k, v in stage.choices}}
                for stage in part.ending.stages
            ]
        if part.looks and isinstance(part.axes, tuple) and part.axes:
            said["axes"] = [[_plain(match), text] for match, text in part.axes]
        said["groups"] = {
            name: {
                "freeze": group.freeze,
                "match": _plain(group.match),
                "own": sorted(group.numbers),
                **_factors(group),
            }
            for name, group in part.groups.items()
        }
    if part.choices:
        said["choices"] = {k: _plain(v) for k, v in part.choices.items()}
    if part.wrapped:
        said["inner"] = {label: _part(inner) for label, inner in part.wrapped.items()}
    return said


def _is_late(spec: Spec, name: str, value: Any) -> bool:
    """Whether this is off and torch's optimizer lacks it, or so said: a file may be older."""
    hyper = spec.by_name.get(name)
    off = None if hyper else spec.unsaid.get(name, False)
    late = value == off and type(value) is type(off)
    key = hyper.torch if hyper else spec.options.get(name)
    return (bool(spec.torch) or name in spec.unsaid) and key is None and late


def _factors(group: Group) -> dict[str, Any]:
    """The numbers that the group multiplies, if there are any."""
    names = sorted(k for k, v in group.numbers.items() if isinstance(v, Times))
    return {"times": names} if names else {}


def _plain(value: Any) -> Any:
    value = plain(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple) and len(value) <= MAX_LIST:
        return [_plain(v) for v in value]
    if inspect.isroutine(value) or isinstance(value, type):
        return f"<{value.__qualname__}>"
    return _ADDRESS.sub("", repr(value))


def differing(want: Any, have: Any, path: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    """Where two configurations differ, and what each has there."""
    if isinstance(want, dict) and isinstance(have, dict):
        keys = sorted(want.keys() | have.keys())
        absent = object()
        return [
            line
            for key in keys
            for line in differing(want.get(key, absent), have.get(key, absent), (*path, key))
        ]
    if want == have and type(want) is type(have):
        return []
    shown = ("nothing" if type(x) is object else repr(x) for x in (want, have))
    return [("/".join(path), *shown)]  # type: ignore[list-item]
