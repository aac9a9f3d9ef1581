"""Hyperparameters as data: how they enter a node of state, and how an update reads them.

A node holds `hyperparams[group][name]`, the numbers, and `schedules[group][name]`, what a
schedule last gave (`value`) and keeps for itself. The `"default"` group holds all of them,
every other group only its own: the rest it inherits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, StateError
from jopt.core.groups import DEFAULT, Common, Group
from jopt.core.spec import Spec
from jopt.numerics import number_dtype

Number = float | Array
"""What a hyperparameter may be when it is no schedule."""


@runtime_checkable
class StatefulSchedule(Protocol):
    """A schedule that remembers, such as reduce-on-plateau; its memory lives in the state."""

    extra: tuple[str, ...]

    def init(self) -> dict[str, Any]:
        """The memory before the first step; it holds `value`, the number in force."""

    def update(self, memory: dict[str, Any], step: Array | None, **extra: Any) -> dict[str, Any]:
        """The memory after looking at this step; its `value` is used at this step."""


Value = Number | Callable[[Any], Any] | StatefulSchedule
"""A number, or a schedule: a function of the step, from 0, or one with a memory."""


def is_schedule(value: Any) -> bool:
    """Whether `value` is computed at each step instead of kept as a number."""
    return callable(value) or isinstance(value, StatefulSchedule)


def check_names(spec: Spec, names: Iterable[str]) -> None:
    """Raise `ConfigError` for an argument that the optimizer does not have."""
    for name in names:
        if name not in spec.by_name:
            known = [*spec.by_name, *spec.options, *Common.__annotations__]
            raise ConfigError(
                spec.name, f"there is no argument {name!r}", expected=", ".join(known), found=name
            )


def check_numbers(spec: Spec, numbers: Mapping[str, Any], groups: Mapping[str, Group]) -> None:
    """Raise `ConfigError` for a number out of range or one that the optimizer does not have."""
    for name, value in numbers.items():
        _check_number(spec, name, value, DEFAULT)
    for label, g in groups.items():
        for name, value in g.numbers.items():
            if name not in numbers:
                raise ConfigError(
                    spec.name,
                    f"group {label!r} sets {name!r}, which this optimizer does not have",
                    expected=", ".join(numbers) or "no hyperparameters",
                    found=name,
                    fix=switched_off(spec, name),
                )
            _check_number(spec, name, value, label)


def _check_number(spec: Spec, name: str, value: Any, group: str) -> None:
    hyper = spec.by_name[name]
    if value is None:  # of an optional one None was taken out before: it switches it off
        raise ConfigError(
            spec.name, f"{name} cannot be switched off", expected=hyper.valid, found="None"
        )
    if not is_schedule(value):
        hyper.check(spec.name, value, group)
    elif not hyper.scheduled:
        where = "" if group == DEFAULT else f" of group {group!r}"
        raise ConfigError(
            spec.name,
            f"{name}{where} is read only once, so a schedule could not act",
            expected=f"a number in {hyper.valid}",
            found=repr(value),
        )


def switched_off(spec: Spec, name: str) -> str | None:
    """Advice for a hyperparameter that exists but was left out of this configuration."""
    if name not in spec.by_name:
        return None
    return f"It is switched off here: build {spec.name}(..., {name}=...) to have it."


def owners(
    numbers: Mapping[str, Any], groups: Mapping[str, Group]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Each group that has numbers of its own, with them; `"default"` first."""
    own = [(DEFAULT, numbers)] if numbers else []
    return own + [(label, g.numbers) for label, g in groups.items() if g.numbers]


def init_numbers(
    spec: Spec, numbers: Mapping[str, Any], groups: Mapping[str, Group]
) -> dict[str, Any]:
    """The `hyperparams` and `schedules` entries of a new node; neither where it would be empty."""
    who, dtype = spec.name, number_dtype()
    node: dict[str, Any] = {}
    kind: str
    entry: Any
    for label, own in owners(numbers, groups):
        for name, value in own.items():
            if not is_schedule(value):
                kind, entry = "hyperparams", jnp.array(value, dtype, copy=True)
            elif isinstance(value, StatefulSchedule):
                kind, entry = "schedules", _settled(value.init(), dtype)
            else:
                first = _scheduled(who, name, value, jnp.int32(0), dtype)
                spec.by_name[name].check(who, first, label)
                kind, entry = "schedules", {"value": first}
            node.setdefault(kind, {}).setdefault(label, {})[name] = entry
    return node


def own_numbers(node: Any) -> dict[str, dict[str, Any]]:
    """The numbers in a node by group, scheduled ones included, inherited ones not."""
    own: dict[str, dict[str, Any]] = {}
    if not isinstance(node, Mapping):
        return own
    for group, values in node.get("hyperparams", {}).items():
        own.setdefault(group, {}).update(values)
    for group, memories in node.get("schedules", {}).items():
        own.setdefault(group, {}).update({k: m["value"] for k, m in memories.items()})
    return own


def check_fit(
    who: str, node: Mapping[str, Any], numbers: Mapping[str, Any], groups: Mapping[str, Group]
) -> None:
    """Raise `StateError` unless a node has the numbers and schedules of this configuration."""
    for kind in ("hyperparams", "schedules"):
        _check_groups(who, kind, node.get(kind, {}))
    expected = {
        (label, name): "a schedule's memory" if is_schedule(value) else "a number"
        for label, own in owners(numbers, groups)
        for name, value in own.items()
    }
    found = {
        (label, name): what
        for kind, what in (("hyperparams", "a number"), ("schedules", "a schedule's memory"))
        for label, own in node.get(kind, {}).items()
        for name in own
    }
    if expected == found:
        return
    label, name = min(dict(expected.items() ^ found.items()), key=lambda k: (str(k[0]), str(k[1])))
    raise StateError(
        who,
        f"this state has other numbers: {name} of group {label!r} does not fit",
        expected=expected.get((label, name), "nothing"),
        found=found.get((label, name), "nothing"),
        fix="If that is meant, carry it over: state = jopt.extend(tx, state, params).",
    )


def _check_groups(who: str, kind: str, groups: Any) -> None:
    # A state may come from a file that anybody wrote.
    if isinstance(groups, Mapping) and all(isinstance(own, Mapping) for own in groups.values()):
        memories = [m for own in groups.values() for m in own.values()]
        if kind == "hyperparams" or all(isinstance(m, Mapping) for m in memories):
            return
    held = "{name: number}" if kind == "hyperparams" else "{name: memory}"
    problem = f"{kind!r} in this state is not as jopt keeps it"
    raise StateError(who, problem, expected=f"{{group: {held}}}", found=repr(groups)[:100])


def read_numbers(
    who: str,
    node: Mapping[str, Any],
    numbers: Mapping[str, Any],
    groups: Mapping[str, Group],
    step: Array | None,
    extra: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Array]], dict[str, Any]]:
    """The numbers for this step, whole for every group, and the new `schedules` entry."""
    check_fit(who, node, numbers, groups)
    dtype = number_dtype()
    resolved: dict[str, dict[str, Array]] = {}
    schedules: dict[str, Any] = {}
    for label, own in owners(numbers, groups):
        values: dict[str, Array] = {}
        for name, value in own.items():
            if not is_schedule(value):
                values[name] = node["hyperparams"][label][name]
                _check_scalar(who, name, values[name], "vmap over the state for several at once")
                continue
            if isinstance(value, StatefulSchedule):
                given = {k: v for k, v in extra.items() if k in value.extra}
                entry = _settled(value.update(node["schedules"][label][name], step, **given), dtype)
            else:
                entry = {"value": _scheduled(who, name, value, step, dtype)}
            schedules.setdefault(label, {})[name] = entry
            values[name] = entry["value"]
        resolved[label] = {**resolved.get(DEFAULT, {}), **values}
    for label in (DEFAULT, *groups):
        resolved.setdefault(label, resolved.get(DEFAULT, {}))
    return resolved, schedules


def _scheduled(who: str, name: str, schedule: Any, step: Any, dtype: Any) -> Array:
    try:
        value = jnp.asarray(schedule(step), dtype)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            who,
            f"the schedule of {name} gives no number",
            expected="a function of the step that returns a number",
            found=f"{schedule!r}: {error}",
        ) from error
    _check_scalar(who, name, value, "a schedule gives one number a step")
    return value


def _check_scalar(who: str, name: str, value: Any, fix: str) -> None:
    if not hasattr(value, "dtype") and not isinstance(value, int | float):
        found = repr(value)[:100]
        raise StateError(who, f"{name} is not a number", expected="a number", found=found)
    if jnp.shape(value) != ():
        raise StateError(
            who,
            f"{name} is not a single number",
            expected="shape ()",
            found=f"shape {jnp.shape(value)}",
            fix=fix[0].upper() + fix[1:] + ".",
        )


def _settled(memory: Mapping[str, Any], dtype: Any) -> dict[str, Array]:
    # Strong dtypes, so that the state after a step has the types it had before it.
    settled = {}
    for name, value in memory.items():
        x = jnp.asarray(value)
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        settled[name] = x.astype(dtype if floating else x.dtype)
    return settled
