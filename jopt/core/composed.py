"""A leaf in several groups: whose numbers it has.

A leaf has the default's numbers, in their place those that its groups set, and of these so many
times as its groups' factors say. Everything that asks for a leaf's numbers asks `composed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import GroupError, StateError, alike, plain
from jopt.core.groups import DEFAULT, Group, Labels, key_of
from jopt.core.numbers import is_schedule
from jopt.core.spec import Spec
from jopt.core.times import Times

Own = Mapping[str, Mapping[str, Any]]
"""What each group has of its own, by name."""


def composed(who: str, own: Own, factors: Own, labels: Labels) -> dict[str, Any]:
    """The numbers of a leaf in these groups.

    **Arguments:** `own`: numbers by group, the default's whole; `factors`: those of `jopt.times`,
    by group.
    """
    found = dict(own.get(DEFAULT, {}))
    setters: dict[str, str] = {}
    for label in labels:
        for name, value in own.get(label, {}).items():
            if name in setters:
                value = _agreed(who, name, {setters[name]: found[name], label: value})
            setters[name], found[name] = label, value
    for label in labels:
        for name, factor in factors.get(label, {}).items():
            found[name] = found[name] * factor
    return found


def _agreed(who: str, name: str, values: Mapping[str, Any]) -> Any:
    """The one number of two groups: an edit of one alone may have made it two.

    **Raises:** `StateError` where that is known; else the number is NaN.
    """
    a, b = values.values()
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return jnp.where(a == b, b, jnp.nan)
    if np.array_equal(np.asarray(a), np.asarray(b)):
        return b
    raise StateError(
        who,
        f"{name} of one leaf is two numbers",
        expected="one number",
        found=", ".join(f"{value} of group {label!r}" for label, value in values.items()),
        fix="Edit it in both groups.",
    )


def check_composed(
    spec: Spec,
    numbers: Mapping[str, Any],
    groups: Mapping[str, Group],
    names: Sequence[str],
    labels: Sequence[Labels],
) -> None:
    """Raise `GroupError` for a leaf that several groups give two values, or a value out of range.

    **Arguments:** `names`, `labels`: each leaf's name and groups.
    """
    keys: dict[str, Labels] = {label: (label,) for label in (DEFAULT, *groups)}
    for held, name in {h: n for h, n in zip(labels, names, strict=True) if len(h) > 1}.items():
        if keys.setdefault(key_of(held), held) != held:
            raise GroupError(
                spec.name,
                f"two sets of groups would both be called {key_of(held)!r}",
                path=name,
                found=" and ".join(map(repr, (keys[key_of(held)], held))),
                fix="Rename a group.",
            )
        if not any(groups[label].freeze for label in held):
            _check_one(spec, numbers, groups, name, held)


def _check_one(
    spec: Spec, numbers: Mapping[str, Any], groups: Mapping[str, Group], path: str, held: Labels
) -> None:
    setters: dict[str, str] = {}
    factors: dict[str, dict[str, Any]] = {}
    for label in held:
        for name, value in groups[label].numbers.items():
            if isinstance(value, Times):
                factors.setdefault(name, {})[label] = value.factor
            elif not _same(value, groups[setters.setdefault(name, label)].numbers[name]):
                first = setters[name]
                two = groups[first].numbers[name], value
                raise GroupError(
                    spec.name,
                    f"groups {first!r} and {label!r} both set {name} of one leaf",
                    path=path,
                    expected="one value",
                    found=" and ".join(map(repr, two)),
                    fix="Narrow one pattern, or let one multiply: jopt.times(...).",
                )
    for name, by in factors.items():
        base = groups[setters[name]].numbers[name] if name in setters else numbers[name]
        product = plain(base)
        for factor in map(plain, by.values()):
            known = isinstance(product, int | float) and isinstance(factor, int | float)
            product = product * factor if known else None
        if product is not None and not spec.by_name[name].allows(product):
            raise GroupError(
                spec.name,
                f"{name} is out of range where groups multiply it",
                path=path,
                expected=spec.by_name[name].valid,
                found=f"{product!r}, {base!r} times the factors of {', '.join(map(repr, by))}",
            )


def _same(a: Any, b: Any) -> bool:
    """Whether two groups mean the same; of numbers that are not known yet the step will tell."""
    a, b = plain(a), plain(b)
    if any(isinstance(x, jax.core.Tracer) for x in (a, b)):
        return not (is_schedule(a) or is_schedule(b))
    return bool(alike(a) == alike(b))
