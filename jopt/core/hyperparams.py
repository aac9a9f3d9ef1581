"""Reading and editing the numbers in a state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jopt.base import ConfigError, StateError, plain
from jopt.core.groups import DEFAULT
from jopt.core.numbers import own_numbers
from jopt.core.spec import REGISTRY, Hyper
from jopt.core.transform import Node, State
from jopt.core.tree import Path, from_pointer, shown


def nodes(state: State, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every node of a state with its label; a wrapped one is called `wrapper/inner`."""
    if not isinstance(state, Mapping):
        raise StateError(
            "hyperparams",
            "this is no state of a jopt transform",
            expected="a dict {label: node}",
            found=type(state).__name__,
            fix="In the state of an optax.chain, take the entry of the jopt transform.",
        )
    for label, node in state.items():
        name = f"{prefix}{shown((str(label),))}"
        yield name, node
        if isinstance(node, Mapping) and isinstance(node.get("inner"), Mapping):
            yield from nodes(node["inner"], f"{name}/")


def hyperparams(state: State) -> dict[str, dict[str, dict[str, Any]]]:
    """The numbers in force: `{label: {group: {name: scalar}}}`, inherited ones included.

    A scheduled number is the one that the last update used, and before the first update the
    one that it will use. The values are the state's own arrays: reading costs nothing under
    `jit`, and `float(...)` gives a Python number.

    >>> import jax.numpy as jnp, jopt
    >>> state = jopt.adamw(1e-3, weight_decay=0.1).init({"w": jnp.ones(3)})
    >>> round(float(jopt.hyperparams(state)["adamw"]["default"]["weight_decay"]), 6)
    0.1
    """
    view: dict[str, dict[str, dict[str, Any]]] = {}
    for label, node in nodes(state):
        own = _own(label, node)
        if own:
            base = own.get(DEFAULT, {})
            view[label] = {group: {**base, **values} for group, values in own.items()}
    return view


def set_hyperparams(
    state: State, *, label: str | None = None, group: str = DEFAULT, **values: Any
) -> State:
    """The state with other numbers. Nothing recompiles: shapes and dtypes stay.

    **Arguments:**

    - `label`: which transform, as `hyperparams` calls it; needed only if several have the name.
    - `group`: which group. Groups that have no number of their own follow `"default"`.
    - `**values`: numbers by name. In a state with a first axis, of many runs under `jax.vmap`,
      an array gives each run its own, and a single number goes to all. An array in a state
      without that axis serves `jax.vmap` with `in_axes`.

    **Raises:** `ConfigError` for an unknown label, group or name, an ambiguous name, a value out
    of range, or a number that a schedule sets at every step.

    >>> import jax.numpy as jnp, jopt
    >>> state = jopt.sgd(0.1).init({"w": jnp.ones(3)})
    >>> state = jopt.set_hyperparams(state, learning_rate=0.05)
    >>> round(float(jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]), 6)
    0.05
    """
    found = dict(nodes(state))
    for name, node in found.items():
        _own(name, node)
    if label is not None and label not in found:
        raise ConfigError(
            "set_hyperparams",
            f"no transform is called {label!r}",
            expected=", ".join(found),
            found=label,
        )
    for name, value in values.items():
        here = [n for n in ([label] if label else found) if _has(found[n], name)]
        if not here:
            raise ConfigError(
                "set_hyperparams",
                f"there is no hyperparameter {name!r}",
                expected=", ".join(sorted(_names(found, label))) or "no hyperparameters",
                found=name,
                fix="One that was switched off (None or 0) at construction is not in the state.",
            )
        if len(here) > 1:
            raise ConfigError(
                "set_hyperparams",
                f"several transforms have {name!r}",
                found=", ".join(here),
                fix=f"Say which: label={here[0]!r}.",
            )
        state = _replace(
            state,
            from_pointer(f"/{here[0]}"),
            lambda n, h=here[0], k=name, v=value: _edit(h, n, group, k, v),
        )
    return state


def _has(node: Node, name: str) -> bool:
    return any(name in values for values in own_numbers(node).values())


def _own(label: str, node: Node) -> dict[str, dict[str, Any]]:
    # A state may come from a file that anybody wrote.
    try:
        own = own_numbers(node)
        odd = [(g, k, v) for g, kids in own.items() for k, v in kids.items() if _is_no_number(v)]
    except (AttributeError, TypeError, ValueError, KeyError, IndexError):
        problem = "the numbers in this state are not kept as jopt keeps them"
        raise StateError(label, problem, expected="{group: {name: number}}") from None
    for group, name, value in odd:
        problem, path = f"{name} is not a number", f"hyperparams/{group}/{name}"
        raise StateError(label, problem, path=path, expected="a number", found=repr(value)[:100])
    return own


def _is_no_number(value: Any) -> bool:
    plain_number = isinstance(value, int | float) and not isinstance(value, bool)
    return not (plain_number or hasattr(value, "dtype"))


def _names(found: Mapping[str, Node], label: str | None) -> set[str]:
    chosen = [found[label]] if label else found.values()
    return {name for node in chosen for values in own_numbers(node).values() for name in values}


def _replace(state: State, path: Path, edit: Any) -> State:
    head, *rest = path
    node = state[head]
    new = {**node, "inner": _replace(node["inner"], tuple(rest), edit)} if rest else edit(node)
    return {**state, head: new}


def _edit(label: str, node: Node, group: str, name: str, value: Any) -> Node:
    own = own_numbers(node)
    if group not in own:
        raise ConfigError(
            label,
            f"no group is called {group!r}",
            expected=", ".join(own),
            found=group,
            fix="Groups that have no number of their own follow 'default'.",
        )
    if name not in own[group]:
        raise ConfigError(
            label,
            f"group {group!r} inherits {name} from 'default'",
            fix=f"Give it its own at construction: jopt.group(..., {name}=...).",
        )
    kind = "hyperparams" if name in node.get("hyperparams", {}).get(group, {}) else "schedules"
    memory = node[kind][group][name]
    if kind == "schedules" and set(memory) == {"value"}:
        raise ConfigError(
            label,
            f"{name} follows a schedule, which would overwrite it at the next step",
            fix="Build tx with a number, then carry over: state = jopt.extend(tx, state, params).",
        )
    old = memory["value"] if kind == "schedules" else memory
    if not hasattr(old, "dtype"):
        raise StateError(label, f"{name} is no array", expected="a scalar", found=repr(old))
    for entry in _concrete(value):  # an array serves vmap: each of its numbers counts
        _check(label, name, entry, group)
    new = _as(label, name, old, value)
    entry = {**memory, "value": new} if kind == "schedules" else new
    groups = {**node[kind], group: {**node[kind][group], name: entry}}
    return {**node, kind: groups}


def _concrete(value: Any) -> list[Any]:
    if isinstance(value, jax.core.Tracer):
        return []
    try:
        row = np.asarray(value)
    except ValueError:  # a ragged list
        return [value]
    if row.ndim == 0 or row.dtype == object or row.size == 0:
        return [value]
    real = np.issubdtype(row.dtype, np.number) and not np.iscomplexobj(row)
    return [row.min(), row.max()] if real and not np.isnan(row).any() else [row.flat[0], np.nan]


def _check(label: str, name: str, value: Any, group: str) -> None:
    # A label usually is the optimizer's name, perhaps numbered by `chain`. Under a label of
    # the user's choice all that is known is what no optimizer allows a number of this name.
    spec = REGISTRY.get(re.sub(r"_\d+$", "", label.split("/")[-1]))
    known = spec is not None and name in spec.by_name
    specs = (spec,) if spec is not None and known else REGISTRY.values()
    hypers = [s.by_name[name] for s in specs if name in s.by_name]
    widest = next((h for h in hypers if _allows(h, value)), hypers[0] if hypers else Hyper(name))
    widest.check(label, value, group)


def _allows(hyper: Hyper, value: Any) -> bool:
    value = plain(value)
    return isinstance(value, int | float) and hyper.allows(value)


def _as(label: str, name: str, old: Any, value: Any) -> Any:
    try:
        new = jnp.array(value, old.dtype, copy=True)
        if new.shape == ():
            new = jnp.broadcast_to(new, old.shape)
    except (TypeError, ValueError):
        raise StateError(
            label, f"{name} is not a number", expected="a number", found=repr(value)
        ) from None
    if isinstance(old, jax.core.Tracer) or isinstance(new, jax.core.Tracer):
        return new
    # Placed as the old number was, and only if it was: committing an array to a device that
    # was free until now would compile the next step anew.
    placed = isinstance(old, jax.Array) and old.committed and new.shape == old.shape
    return jax.device_put(new, old.sharding) if placed else new
