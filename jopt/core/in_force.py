"""The numbers in a node of state: how they enter it, how an update reads them, and what it leaves.

A node holds `hyperparams[group][name]`, the numbers, and `schedules[group][name]`, what a
schedule gives for the step to come (`value`) and keeps for itself, and `times[group][name]`, the
factors of a group. The `"default"` group holds all numbers, every other group only its own: the
rest it inherits; `composed` puts them together. `given` says which numbers the transform was
built with: see that module. So a node always says what the next update uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import StateError, number_of
from jopt.core.composed import composed
from jopt.core.counts import ticked
from jopt.core.given import KINDS, UNKNOWN, check_given, known, new_given, ruling, stacked
from jopt.core.groups import DEFAULT, Group, Labels
from jopt.core.nested import merged
from jopt.core.numbers import (
    StatefulSchedule,
    is_number,
    is_schedule,
    kind_of,
    own_factors,
    owners,
    plain_numbers,
)
from jopt.core.spec import Spec
from jopt.numerics import number_dtype


def init_numbers(
    spec: Spec, numbers: Mapping[str, Any], groups: Mapping[str, Group]
) -> dict[str, Any]:
    """The `hyperparams`, `given` and `schedules` entries of a new node, but for empty ones."""
    who, dtype = spec.name, number_dtype()
    plain = plain_numbers(numbers, groups)
    node: dict[str, Any] = new_given(plain)
    entry: Any
    for label, own in owners(numbers, groups):
        for name, value in own.items():
            if (label, name) in plain:
                entry = jnp.array(plain[label, name], dtype, copy=True)
            elif isinstance(value, StatefulSchedule):
                entry = _settled(value.init(), dtype)
            else:
                first = _scheduled(who, name, value, jnp.int32(0), dtype)
                spec.by_name[name].check(who, first, label)
                entry = {"value": first}
            node.setdefault(kind_of(value), {}).setdefault(label, {})[name] = entry
    return node


WHAT = {"hyperparams": "a number", "schedules": "a schedule's memory", "times": "a factor"}
"""What the entries of a node hold for a number."""


def check_fit(
    who: str, node: Mapping[str, Any], numbers: Mapping[str, Any], groups: Mapping[str, Group]
) -> None:
    """Raise `StateError` unless a node has the numbers and schedules of this configuration."""
    for kind in WHAT:
        _check_groups(who, kind, node.get(kind, {}))
    expected = {
        (label, name): WHAT[kind_of(value)]
        for label, own in owners(numbers, groups)
        for name, value in own.items()
    }
    found = {
        (label, name): what
        for kind, what in WHAT.items()
        for label, own in node.get(kind, {}).items()
        for name in own
    }
    if expected == found:
        check_given(who, node, plain_numbers(numbers, groups))
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
        if kind != "schedules" or all(map(_is_memory, memories)):
            return
    held = "{name: memory}" if kind == "schedules" else "{name: number}"
    problem = f"{kind!r} in this state is not as jopt keeps it"
    raise StateError(who, problem, expected=f"{{group: {held}}}", found=repr(groups)[:100])


def _is_memory(memory: Any) -> bool:
    """Numbers, arrays of them and what they are held in, the coming value among them."""
    if not isinstance(memory, Mapping) or "value" not in memory:
        return False
    leaves = jax.tree.leaves(dict(memory), is_leaf=lambda x: x is None)
    return all(hasattr(x, "dtype") or isinstance(x, int | float) for x in leaves) and is_number(
        memory["value"]
    )


def read_numbers(
    who: str,
    node: Mapping[str, Any],
    numbers: Mapping[str, Any],
    groups: Mapping[str, Group],
    step: Array,
    extra: Mapping[str, Any],
    labels: Iterable[Labels],
) -> tuple[dict[Labels, dict[str, Array]], dict[str, Any]]:
    """The numbers for this step of leaves in these groups, and the new entries of the node."""
    check_fit(who, node, numbers, groups)
    for own in (own for kind in KINDS for own in node.get(kind, {}).values()):
        for name, value in own.items():
            _check_scalar(who, name, value, "vmap over the state for several at once")
    dtype = number_dtype()
    entries = taken_over(node, numbers, groups)
    values = {k: dict(own) for k, own in entries.get("hyperparams", {}).items()}
    schedules: dict[str, Any] = {}
    for label, own in owners(numbers, groups):
        for name, value in own.items():
            if not is_schedule(value):
                continue
            if isinstance(value, StatefulSchedule):
                given = {k: v for k, v in extra.items() if k in value.extra}
                old = node["schedules"][label][name]
                try:
                    now, memory = value.update(old, step, **given)
                except KeyError as error:
                    raise StateError(
                        who, f"the memory of {name} has no {error}", found=", ".join(map(str, old))
                    ) from error
                now, entry = jnp.asarray(now, dtype), _settled(memory, dtype, old)
            else:
                old = jnp.asarray(node["schedules"][label][name]["value"])
                now = _scheduled(who, name, value, step, dtype)
                entry = {"value": _scheduled(who, name, value, ticked(step), old.dtype)}
            schedules.setdefault(label, {})[name] = entry
            values.setdefault(label, {})[name] = now
    factors = own_factors(entries)
    resolved = {held: composed(who, values, factors, held) for held in dict.fromkeys(labels)}
    return resolved, {**entries, **({"schedules": schedules} if schedules else {})}


def taken_over(
    node: Mapping[str, Any], numbers: Mapping[str, Any], groups: Mapping[str, Group]
) -> dict[str, Any]:
    """The numbers, factors and `given` of a node once those that were changed last rule."""
    held = {
        (label, name): (kind, x)
        for kind in KINDS
        for label, own in node.get(kind, {}).items()
        for name, x in own.items()
    }
    if not held:
        return {}
    plain = plain_numbers(numbers, groups)
    ruled, given = ruling({key: x for key, (_, x) in held.items()}, node["given"], plain)
    new: dict[str, Any] = {"given": given}
    for (label, name), value in ruled.items():
        new.setdefault(held[label, name][0], {}).setdefault(label, {})[name] = value
    return new


def settled_numbers(
    who: str, node: Mapping[str, Any], numbers: Mapping[str, Any], groups: Mapping[str, Group]
) -> dict[str, Any]:
    """The entries that say what the next update uses, for a node of any transform like this."""
    entries = taken_over(node, numbers, groups)
    for label, own in node.get("schedules", {}).items():
        for name, memory in own.items():
            value = (numbers if label == DEFAULT else groups[label].numbers)[name]
            if not isinstance(value, StatefulSchedule):
                old = jnp.asarray(memory["value"])
                memory = {"value": _scheduled(who, name, value, node["count"], old.dtype)}
            entries.setdefault("schedules", {}).setdefault(label, {})[name] = memory
    return entries


def extended_numbers(
    who: str,
    new: Mapping[str, Any],
    old: Mapping[str, Any],
    numbers: Mapping[str, Any],
    groups: Mapping[str, Group],
) -> dict[str, Any]:
    """The entries of a new node, with the right count, that go on from an old one's.

    A number that the old one has not, or had by a schedule, is that of the transform.
    """
    for kind in WHAT:
        _check_groups(who, kind, old.get(kind, {}))
    for own in (own for kind in KINDS for own in old.get(kind, {}).values()):
        for name, value in own.items():
            _check_number(who, name, value)
    held = dict(new)
    for label, own in new.get("schedules", {}).items():
        for name, memory in own.items():
            before = old.get("schedules", {}).get(label, {}).get(name, {})
            same = set(before) == set(memory)
            entry = before if same else memory
            held["schedules"] = {
                **held["schedules"],
                label: {**held["schedules"][label], name: entry},
            }
    if "given" not in new:
        return settled_numbers(who, held, numbers, groups)
    held |= {kind: merged(new[kind], old.get(kind, {})) for kind in KINDS if kind in new}
    mine, theirs = known(who, new), known(who, old)
    kept = {
        (label, name)
        for kind in KINDS
        for label, own in new.get(kind, {}).items()
        for name in own
        if name in old.get(kind, {}).get(label, {})
    }
    row = [theirs.get(key, UNKNOWN) if key in kept else mine[key] for key in mine]
    held["given"] = stacked(row, new["given"].dtype)
    return settled_numbers(who, held, numbers, groups)


def _scheduled(who: str, name: str, schedule: Any, step: Any, dtype: Any) -> Array:
    value = number_of(who, f"the schedule of {name}", schedule, step, dtype=dtype)
    _check_scalar(who, name, value, "a schedule gives one number a step")
    return value


def _check_number(who: str, name: str, value: Any) -> None:
    if not is_number(value):
        found = repr(value)[:100]
        raise StateError(who, f"{name} is not a number", expected="a number", found=found)


def _check_scalar(who: str, name: str, value: Any, fix: str) -> None:
    _check_number(who, name, value)
    if jnp.shape(value) != ():
        raise StateError(
            who,
            f"{name} is not a single number",
            expected="shape ()",
            found=f"shape {jnp.shape(value)}",
            fix=fix[0].upper() + fix[1:] + ".",
        )


def _settled(
    memory: Mapping[str, Any], dtype: Any, old: Mapping[str, Any] | None = None
) -> dict[str, Array]:
    # Strong dtypes, so that the state after a step has the types it had before it.
    settled = {}
    for name, value in memory.items():
        x = jnp.asarray(value)
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        wanted = dtype if floating else x.dtype
        settled[name] = x.astype(jnp.asarray(old[name]).dtype if old else wanted)
    return settled
