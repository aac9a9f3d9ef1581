"""The numbers and choices of torch's groups, against those of jopt's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from jopt import optimizers
from jopt.base import CheckpointError, ConfigError, alike
from jopt.core.composed import composed
from jopt.core.groups import DEFAULT, Labels
from jopt.core.numbers import StatefulSchedule, is_schedule, own_at, own_factors, own_numbers
from jopt.core.spec import REGISTRY, Spec
from jopt.core.transform import Node
from jopt.interop._given import shown
from jopt.interop.torch.build import Keys, keys_of
from jopt.interop.torch.states.members import Member
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.tensors import Lines, array_of, shortest

# Flags that the classes have had from their first versions on are missed by a file of another
# class only; these are younger than files that are still about.
YOUNG = frozenset({"maximize", "decoupled"})

# The classes whose groups say whether the step is fused.
FUSED = frozenset({"Adagrad", "Adam", "AdamW", "SGD"})


def read_group(target: Target, number: int, group: Mapping[str, Any]) -> dict[str, Any]:
    """One torch group as jopt's arguments; a `CheckpointError` if it is of another class."""
    keys = keys_of(target.part.spec)
    missing, foreign = keys.required - set(group), _foreign(keys, group)
    foreign |= {k for k, v in keys.fixed.items() if _plain(group.get(k, v)) is not v}
    if any(_is_whole(other, group) for other in _classes()):
        later = {k for k, names in keys.names.items() if set(names) & keys.absent.keys() - YOUNG}
        missing |= later - set(group)
    if missing or foreign:
        guess = " or ".join(_likely(group))
        raise CheckpointError(
            "import_optimizer",
            f"group {number} is none of {target.torch}, which {target.label} is"
            + (f"; it looks like one of torch.optim.{guess}" if guess else ""),
            expected=", ".join(sorted(keys.names)),
            found=", ".join(map(str, (k for k in group if k != "params"))),
        )
    found = keys.ours({k: _plain(v) for k, v in group.items() if k in keys.names})
    for name in found.keys() & set(keys.spec.by_name):
        if not isinstance(found[name], int | float | str | None):
            found[name] = shown(found[name])  # which is no number, as will be said
    return {**keys.absent, **found}


def _classes() -> list[Keys]:
    return [keys_of(spec) for spec in REGISTRY.values() if spec.torch]


def _foreign(keys: Keys, group: Mapping[str, Any]) -> set[str]:
    """Keys that another class has in its groups, and this one never."""
    elsewhere = {key for other in _classes() for key in other.names}
    fused = {"fused"} if keys.spec.torch not in FUSED else set()
    return ((elsewhere - {*keys.names, *keys.fixed}) | fused) & set(group)


def _is_whole(keys: Keys, group: Mapping[str, Any]) -> bool:
    """Whether it is a group of this class, with nothing missing and nothing more."""
    return keys.names.keys() <= set(group) and not _foreign(keys, group)


def _likely(group: Mapping[str, Any]) -> list[str]:
    """The classes that explain most keys of a group."""
    scores = {}
    for keys in _classes():
        as_fixed = all(_plain(group.get(k, v)) is v for k, v in keys.fixed.items())
        if keys.required <= set(group) and as_fixed:
            known = len((keys.names.keys() & set(group)) | set(keys.fixed))
            scores[str(keys.spec.torch)] = _is_whole(keys, group), known
    return sorted(k for k, n in scores.items() if n == max(scores.values()))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    array = array_of(value) if hasattr(value, "dtype") else ""
    return value if isinstance(array, str) or array.size != 1 else array.reshape(()).item()


def choices(target: Target, groups: Sequence[Mapping[str, Any]]) -> Lines:
    """Where the static choices of torch's groups are not those of the transform."""
    spec, mine = target.part.spec, dict(target.part.frozen_options)
    defaults = keys_of(spec).defaults
    return [
        f"group {number}: {key} is {theirs!r}, {name} of {target.label} {mine[name]!r}"
        for name, key in spec.options.items()
        for number, ours in enumerate(groups if key else ())
        if alike(theirs := ours.get(name, defaults[name])) != alike(mine[name])
    ]


def put_numbers(
    target: Target,
    node: Node,
    groups: Sequence[Mapping[str, Any]],
    members: Sequence[Member],
    count: int | None,
    bases: Sequence[Any],
    lines: Lines,
) -> Node:
    """The node with the numbers of torch's groups.

    Every number goes to the jopt groups that own it for the leaves of the torch group; where
    groups multiply it, torch has to have the product. A scheduled one stays as the schedule has
    it at `count`, and has to be that in torch, too. `bases` are the `initial_lr` of torch's
    groups, which give the schedules their scale.
    """
    part = target.part
    claims: dict[tuple[str, str], dict[Any, list[str]]] = {}
    pairs = sorted({(m.group, target.groups[m.leaf]) for m in members if m.moves})
    factors = own_factors(node)
    products: list[tuple[int, str, Labels, str]] = []
    for g, held in pairs:
        for name in (h.name for h in part.spec.hypers if h.torch):
            value = groups[g][name]
            if name not in part.numbers:
                if _is_on(part.spec, groups[g], name):
                    lines.append(f"group {g}: {name} is {value!r}, {target.label} is without")
                continue
            setters = [
                k for k in held if name in _own(target, k) and name not in factors.get(k, {})
            ]
            if any(name in factors.get(label, {}) for label in held):
                products.append((g, name, held, setters[-1] if setters else DEFAULT))
                continue
            for owner in setters or [DEFAULT]:
                claims.setdefault((owner, name), {}).setdefault(value, []).append(f"group {g}")
    for g, name, held, owner in products:
        # Where no group says it by itself the first product does.
        own = {label: {name: f[name]} for label, f in factors.items() if name in f}
        by = composed("", {DEFAULT: {name: 1.0}}, own, held)[name]
        if (owner, name) not in claims and by > 0:
            value = groups[g][name]
            base = float(value / by) if isinstance(value, int | float) else value
            claims[owner, name] = {base: [f"group {g}"]}
    own = {k: {**v} for k, v in node.get("hyperparams", {}).items()}
    schedules = {k: {**v} for k, v in node.get("schedules", {}).items()}
    for (label, name), values in claims.items():
        if len(values) > 1:
            said = ", ".join(f"{v!r} in torch's {' and '.join(w)}" for v, w in values.items())
            lines.append(
                f"{name}: {said}, and one number for all of them in jopt's group {label!r}; "
                f"declare it: jopt.group(pattern, {name}=...)"
            )
            continue
        [value], given = values, _own(target, label)[name]
        try:
            part.spec.by_name[name].check(target.label, value, label)
        except ConfigError as error:
            lines.append(f"{error.problem}: expected {error.expected}, found {error.found}")
            continue
        if not is_schedule(given):
            own[label][name] = jnp.array(value, own[label][name].dtype)
        elif count is not None and not isinstance(given, StatefulSchedule):
            entry = schedules[label][name]
            now = jnp.asarray(given(jnp.int32(count)), entry["value"].dtype)
            schedules[label][name] = {"value": now}
            # Torch's rates and those that they began at are the measure.
            seen = [float(now), value, *(b for b in bases if isinstance(b, float | int))]
            if abs(float(now) - value) > 1e-4 * max(map(abs, seen)):
                lines.append(
                    f"{name}: {value!r} in torch, {float(now):.6g} by the schedule of group "
                    f"{label!r} at step {count}; say where the schedule is by count=, or build tx "
                    "with the number and change to the schedule by jopt.extend afterwards"
                )
    both = {"hyperparams": own, "schedules": schedules}
    new = {**node, **{k: v for k, v in both.items() if v}}
    for g, name, held, _ in products:
        product = float(composed(target.label, own_numbers(new), factors, held)[name])
        value = groups[g][name]
        if isinstance(value, int | float) and abs(product - value) > 1e-6 * abs(value):
            said = f"group {g}: {name} is {value!r}, in {target.label} {product:.6g}"
            lines.append(f"{said} by the factors of its groups; build tx with torch's")
    return new


def _own(target: Target, label: str) -> Mapping[str, Any]:
    return target.part.numbers if label == DEFAULT else target.part.groups[label].numbers


def _is_on(spec: Spec, ours: Mapping[str, Any], name: str) -> bool:
    """Whether a number that may be switched off is in use in torch's group."""
    if not ours[name]:
        return False
    numbers = {k: v for k, v in ours.items() if k in spec.by_name}
    made = getattr(optimizers, spec.name)(**numbers)
    return name in made.parts[spec.name].numbers


def groups_of(
    target: Target, node: Node, rows: Sequence[Sequence[Member]], blank: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Torch's groups, of these members each; `blank` is a group of torch's without members."""
    part, found = target.part, []
    # What torch's scheduler has written by now: the number of the step to come.
    own = own_at(node, part.numbers, part.groups, node.get("count", 0))
    named = all(m.name for row in rows for m in row)
    for row in rows:
        labels = next((target.groups[m.leaf] for m in row if m.moves), ())
        values = composed(target.label, own, own_factors(node), labels)
        numbers = {k: shortest(v) for k, v in values.items()}
        group = keys_of(part.spec).group({**dict(part.frozen_options), **numbers}, blank)
        group["params"] = [m.id for m in row]
        found.append(group | ({"param_names": [m.name for m in row]} if named else {}))
    return found


def only_here(target: Target, node: Node) -> Lines:
    """Numbers and choices that torch has no key for and that are not what torch does."""
    spec = target.part.spec
    defaults = keys_of(spec).defaults
    lines = []
    for name, key in spec.options.items():
        # How matrices are stored is settled by the axes of each, not by a key.
        if key is None and name != "kernels":
            value = dict(target.part.frozen_options)[name]
            if value != defaults[name]:
                lines.append(f"{name} is {value!r}; torch does as {defaults[name]!r}")
    own, factors = own_numbers(node), own_factors(node)
    for label in {**own, **factors}:
        values = composed(target.label, own, factors, () if label == DEFAULT else (label,))
        for name in {**own.get(label, {}), **factors.get(label, {})}:
            value = shortest(values[name])
            if spec.by_name[name].torch is None and value != defaults[name]:
                said = f"{name} of group {label!r} is {value!r}"
                lines.append(f"{said}; torch does as {defaults[name]!r}")
    return lines
