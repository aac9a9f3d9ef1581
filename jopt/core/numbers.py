"""Hyperparameters: what may be given for one, and which groups have which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, plain
from jopt.core.given import Key
from jopt.core.groups import DEFAULT, SHARED, Common, Group, Steps
from jopt.core.spec import Spec
from jopt.core.times import Times

Number = float | Array
"""What a hyperparameter may be when it is no schedule."""


@runtime_checkable
class StatefulSchedule(Protocol):
    """A schedule that remembers, such as reduce-on-plateau; its memory lives in the state."""

    extra: tuple[str, ...]

    def init(self) -> dict[str, Any]:
        """The memory before the first step; its `value` is the number of that step."""

    def update(
        self, memory: dict[str, Any], step: Array, **extra: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The number of this step, and the memory after it, whose `value` is that of the next."""


Value = Number | Callable[[Any], Any] | StatefulSchedule
"""A number, or a schedule: a function of the step, from 0, or one with a memory."""


def is_schedule(value: Any) -> bool:
    """Whether `value` is computed at each step instead of kept as a number."""
    return callable(value) or isinstance(value, StatefulSchedule)


def is_number(value: Any) -> bool:
    """Whether what a state holds for a number is one, or an array of them for many runs."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def check_names(spec: Spec, names: Iterable[str]) -> None:
    """Raise `ConfigError` for an argument that the optimizer does not have."""
    for name in names:
        if name not in spec.by_name:
            common = Steps if spec.steps else Common
            known = [*dict.fromkeys((*spec.by_name, *spec.options, *common.__annotations__))]
            raise ConfigError(
                spec.name, f"there is no argument {name!r}", expected=", ".join(known), found=name
            )


def check_numbers(spec: Spec, numbers: Mapping[str, Any], groups: Mapping[str, Group]) -> None:
    """Raise `ConfigError` for a number out of range or one that the optimizer does not have."""
    for name, value in numbers.items():
        _check_number(spec, name, value, DEFAULT)
    for label, g in groups.items():
        for name, value in g.numbers.items():
            if name in spec.options or name in SHARED:
                raise ConfigError(
                    spec.name,
                    f"group {label!r} sets {name!r}, which is one choice for the whole optimizer",
                    expected=", ".join(numbers) or "no hyperparameters",
                    found=name,
                    fix=f"Send these leaves to another one: jopt.route({spec.name}(...), "
                    f"{label}=(match, {spec.name}(..., {name}=...))).",
                )
            if name not in numbers:
                raise ConfigError(
                    spec.name,
                    f"group {label!r} sets {name!r}, which this optimizer does not have",
                    expected=", ".join(numbers) or "no hyperparameters",
                    found=name,
                    fix=switched_off(spec, name),
                )
            if isinstance(value, Times):
                _check_product(spec, name, numbers[name], value, label)
            else:
                _check_number(spec, name, value, label)


def _check_product(spec: Spec, name: str, base: Any, value: Times, group: str) -> None:
    base, factor = plain(base), plain(value.factor)
    known = isinstance(base, int | float) and isinstance(factor, int | float)
    if known and not spec.by_name[name].allows(base * factor):
        raise ConfigError(
            spec.name,
            f"{name} of group {group!r} is out of range",
            expected=spec.by_name[name].valid,
            found=f"{base * factor!r}, {base!r} times {factor!r}",
        )


def _check_number(spec: Spec, name: str, value: Any, group: str) -> None:
    hyper = spec.by_name[name]
    if value is None:  # of an optional one None was taken out before: it switches it off
        raise ConfigError(
            spec.name, f"{name} cannot be switched off", expected=hyper.valid, found="None"
        )
    if isinstance(value, Times):
        raise ConfigError(
            spec.name,
            f"{name} is so many times nothing",
            expected=f"a number in {hyper.valid}, or a schedule step -> number",
            found=repr(value),
            fix="A factor stands in a group: jopt.group(match, learning_rate=jopt.times(0.1)).",
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


def plain_numbers(numbers: Mapping[str, Any], groups: Mapping[str, Group]) -> dict[Key, Any]:
    """The numbers that no schedule sets, factors among them, by group and name."""
    return {
        (label, name): value.factor if isinstance(value, Times) else value
        for label, own in owners(numbers, groups)
        for name, value in own.items()
        if not is_schedule(value)
    }


def own_numbers(node: Any) -> dict[str, dict[str, Any]]:
    """The numbers in a node by group, scheduled ones included, inherited ones and factors not."""
    own: dict[str, dict[str, Any]] = {}
    if not isinstance(node, Mapping):
        return own
    for group, values in node.get("hyperparams", {}).items():
        own.setdefault(group, {}).update(values)
    for group, memories in node.get("schedules", {}).items():
        own.setdefault(group, {}).update({k: m["value"] for k, m in memories.items()})
    return own


def own_at(
    node: Any, numbers: Mapping[str, Any], groups: Mapping[str, Group], step: int
) -> dict[str, dict[str, Any]]:
    """The same as of another step, for schedules that remember nothing."""
    own = own_numbers(node)
    for label, given in owners(numbers, groups):
        for name, value in given.items():
            if is_schedule(value) and not isinstance(value, StatefulSchedule):
                now = jnp.asarray(value(jnp.int32(step)), own[label][name].dtype)
                own[label] = {**own[label], name: now}
    return own


def own_factors(node: Any) -> Mapping[str, Mapping[str, Any]]:
    """The factors in a node, by group."""
    found: Mapping[str, Mapping[str, Any]] = (
        node.get("times", {}) if isinstance(node, Mapping) else {}
    )
    return found


def kind_of(value: Any) -> str:
    """The entry of a node that keeps what was given for a number."""
    if isinstance(value, Times):
        return "times"
    return "schedules" if is_schedule(value) else "hyperparams"
