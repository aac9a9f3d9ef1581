"""Editing the numbers in a state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import NO_ARRAY, ConfigError, StateError, checked, meant, plain
from jopt.core.boxes import is_box
from jopt.core.composed import composed
from jopt.core.groups import DEFAULT
from jopt.core.hyperparams import own_of, sites_of
from jopt.core.makers import makers
from jopt.core.paths import Path
from jopt.core.sites import Site, replaced
from jopt.core.spec import REGISTRY, Hyper, Spec
from jopt.core.times import Times
from jopt.core.transform import Node, T


@checked
def set_hyperparams(
    state: T, *, label: str | None = None, group: str = DEFAULT, **values: Any
) -> T:
    """The state with other numbers. Nothing recompiles: shapes and dtypes stay.

    **Arguments:**

    - `state`: as for `hyperparams`; what comes back has the same containers.
    - `label`: which transform, as `hyperparams` calls it; needed only if several have the name.
      Where `optax.inject_hyperparams` stands around a transform, its number is meant, for that
      is the one it hands in at every step.
    - `group`: which group. Groups that have no number of their own follow `"default"`. A number
      that several groups of one leaf have in common is to be edited in all of them.
    - `**values`: numbers by name; `jopt.times(factor)` where the group multiplies. In a state with
      a first axis, of many runs under `jax.vmap`, an array gives each run its own, and a single
      number goes to all. An array in a state without that axis serves `jax.vmap` with `in_axes`.

    **Raises:** `ConfigError` for an unknown label, group or name, an ambiguous name, a value out
    of range, or a number that a schedule sets at every step.

    >>> import jax.numpy as jnp, jopt
    >>> state = jopt.sgd(0.1).init({"w": jnp.ones(3)})
    >>> state = jopt.set_hyperparams(state, learning_rate=0.05)
    >>> round(float(jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]), 6)
    0.05
    """
    found = _labelled(state, label)
    for name, value in values.items():
        site = _the_one(found, name)
        state = site.put(_edit(site, group, name, value))
        found = _labelled(state, label)
    return state


def _labelled(state: Any, label: str | None) -> list[Site]:
    """Those of this label, or all."""
    found = sites_of("set_hyperparams", state)
    for site in found:
        own_of(site)
    chosen = [s for s in found if label is None or s.label == label]
    if label is not None and not chosen:
        raise ConfigError(
            "set_hyperparams",
            f"no transform is called {label!r}",
            expected=", ".join(s.label for s in found),
            found=label,
        )
    return chosen


def _the_one(found: list[Site], name: str) -> Site:
    """The site whose number of this name is meant."""
    here = [s for s in found if any(name in own for own in own_of(s)[0].values())]
    # What is injected goes into what stands inside, at every step.
    here = [s for s in here if not any(o.injected and o.holds(s) for o in here)]
    if not here:
        known = {k for s in found for own in own_of(s)[0].values() for k in own}
        off = any(_is_off(s, name) for s in found)
        raise ConfigError(
            "set_hyperparams",
            f"there is no hyperparameter {name!r}",
            expected=", ".join(sorted(known)) or "no hyperparameters",
            found=name,
            fix="One that was switched off (None or 0) at construction is not in the state."
            if off
            else meant(name, sorted(known)),
        )
    if len(here) > 1:
        raise ConfigError(
            "set_hyperparams",
            f"several transforms have {name!r}",
            found=", ".join(s.label for s in here),
            fix=f"Say which: label={here[0].label!r}.",
        )
    return here[0]


def _is_off(site: Site, name: str) -> bool:
    """Whether what made this node can be without the number, and is."""
    return any(spec.by_name[name].optional for spec in _makers(site, name))


def _makers(site: Site, name: str) -> list[Spec]:
    """The declarations that have all numbers of this node, and one of this name."""
    known = {*own_of(site)[0].get(DEFAULT, {}), name}
    return [] if site.injected else makers(site.label, site.node, known)


def _edit(site: Site, group: str, name: str, value: Any) -> Node:
    own, factors = own_of(site)
    label, node = site.label, site.node
    if group not in {**own, **factors}:
        raise ConfigError(
            label,
            f"no group is called {group!r}",
            expected=", ".join({**own, **factors}),
            found=group,
            fix="Groups that have no number of their own follow 'default'.",
        )
    multiplies, by_factor = name in factors.get(group, {}), isinstance(value, Times)
    if multiplies != by_factor:
        raise ConfigError(
            label,
            f"{name} of group {group!r} is {'a factor' if multiplies else 'no factor'}",
            expected="jopt.times(factor)" if multiplies else "a number",
            found=repr(value)[:100],
            fix="Build tx otherwise, then carry over: state = jopt.extend(tx, state, params).",
        )
    if by_factor:
        factor = _as(label, name, factors[group][name], value.factor)
        return _multiplied(site, name, replaced(node, ("times", group, name), factor))
    if name not in own.get(group, {}):
        raise ConfigError(
            label,
            f"group {group!r} inherits {name} from 'default'",
            fix=f"Give it its own at construction: jopt.group(..., {name}=...).",
        )
    path, follows = _where(site, group, name)
    if follows:
        raise ConfigError(
            label,
            f"{name} follows a schedule, which would overwrite it at the next step",
            fix="Build it with a number."
            if site.injected
            else "Build tx with a number, then carry over: state = jopt.extend(tx, state, params).",
        )
    old = own[group][name]
    if not hasattr(old, "dtype") and not site.injected:
        raise StateError(label, f"{name} is no array", expected="a scalar", found=repr(old))
    for entry in _concrete(value):  # an array serves vmap: each of its numbers counts
        _check(site, name, entry, group)
    return _multiplied(site, name, replaced(node, path, _as(label, name, old, value)))


def _multiplied(site: Site, name: str, node: Any) -> Node:
    """The edited node; an error if a factor takes the number out of its range."""
    own, factors = own_of(replace(site, node=node))
    for group in (g for g, by in factors.items() if name in by):
        for entry in _concrete(composed(site.label, own, factors, (group,))[name]):
            _check(site, name, entry, group)
    edited: Node = node
    return edited


def _where(site: Site, group: str, name: str) -> tuple[Path, bool]:
    """Where a number stands in its node, and whether a schedule sets it."""
    if site.injected:
        return ("hyperparams", name), name in site.node.get("hyperparams_states", ())
    if name in site.node.get("hyperparams", {}).get(group, {}):
        return ("hyperparams", group, name), False
    memory = site.node["schedules"][group][name]
    return ("schedules", group, name, "value"), set(memory) == {"value"}


def _concrete(value: Any) -> list[Any]:
    if isinstance(value, jax.core.Tracer):
        return []
    try:
        row = np.asarray(value)
    except (TypeError, ValueError):  # a random key, a ragged list
        return [value]
    if row.ndim == 0 or row.dtype == object or row.size == 0:
        return [value]
    real = np.issubdtype(row.dtype, np.number) and not np.iscomplexobj(row)
    return [row.min(), row.max()] if real and not np.isnan(row).any() else [row.flat[0], np.nan]


def _check(site: Site, name: str, value: Any, group: str) -> None:
    # Under a label of the user's choice all that is known is what no optimizer with such numbers
    # allows one of this name; of optax's numbers nothing. A stage's stand beside an optimizer's.
    having = [] if site.injected else [s for s in REGISTRY.values() if name in s.by_name]
    hypers = [spec.by_name[name] for spec in _makers(site, name) or having]
    widest = next((h for h in hypers if _allows(h, value)), hypers[0] if hypers else Hyper(name))
    widest.check(site.label, value, group)


def _allows(hyper: Hyper, value: Any) -> bool:
    value = plain(value)
    return isinstance(value, int | float) and hyper.allows(value)


def _as(label: str, name: str, old: Any, value: Any) -> Any:
    if not hasattr(old, "dtype"):  # optax lets a plain number stand there
        return value
    if is_box(old):
        return jax.tree.map(lambda held: _as(label, name, held, value), old)
    try:
        new = jnp.array(value, old.dtype, copy=True)
        if new.shape == ():
            new = jnp.broadcast_to(new, old.shape)
    except NO_ARRAY:
        raise StateError(
            label, f"{name} is not a number", expected="a number", found=repr(value)
        ) from None
    if old.shape != () and new.shape != old.shape:
        raise ConfigError(
            label,
            f"{name} has another number of values than there are runs",
            expected=f"one number, or shape {tuple(old.shape)}",
            found=f"shape {tuple(new.shape)}",
        )
    if isinstance(old, jax.core.Tracer) or isinstance(new, jax.core.Tracer):
        return new
    # Placed as the old number was, and only if it was: committing an array to a device that
    # was free until now would compile the next step anew.
    placed = isinstance(old, jax.Array) and old.committed and new.shape == old.shape
    return jax.device_put(new, old.sharding) if placed else new
