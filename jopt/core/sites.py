"""Where the numbers of a run lie, in whatever holds its state.

A jopt state is nested dicts; but it may be an entry of other containers, such as the states of
`optax.chain` and `optax.MultiSteps`, a `TrainState` or a list, and these may be nodes of a jopt
chain in turn, their fields then keys of dicts. Anything that jax or `dataclasses` can take apart
is looked into. What is found keeps a way back: a function that gives the whole with one node
exchanged, every container of the type that it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jopt.core.groups import DEFAULT
from jopt.core.paths import Path, part_of, shown
from jopt.core.spec import NODE_KEYS
from jopt.core.tree import Tree

INJECTED = "inject_hyperparams"
"""What labels call a state of optax's with injected numbers."""

# Fields that hold the one state inside: labels leave them out.
_WITHIN = frozenset({"inner_state", "inner_opt_state", "inner_states", "opt_state"})

Put = Callable[[Any], Tree]
"""`put(node)`: the whole with another node in its place."""


@dataclass(frozen=True)
class Site:
    """A node with numbers: its names from the outermost, the node, and the way back.

    **Attributes:** `label`, the names as one; `injected`, whether it is a state of optax's
    `inject_hyperparams`, whose numbers have no groups.
    """

    names: Path
    node: Any
    put: Put
    injected: bool = False

    @property
    def label(self) -> str:
        """The names joined by `/`."""
        return shown(self.names)

    def holds(self, other: Site) -> bool:
        """Whether the other one stands in this one."""
        return self is not other and other.names[: len(self.names)] == self.names


def sites(tree: Tree) -> Iterator[Site]:
    """Every node of jopt's and every injection of optax's, under labels that differ."""
    taken: set[Path] = set()
    for site in _found(tree, (), lambda new: new):
        names = site.names
        n = 1
        while names in taken:  # two fields that labels leave out
            n += 1
            names = (*site.names[:-1], f"{site.names[-1]}_{n}")
        taken.add(names)
        yield dataclasses.replace(site, names=names)


def _found(x: Any, names: Path, put: Put) -> Iterator[Site]:
    opened = children(x)
    if opened is None:
        return
    inside, rebuild = opened

    def put_at(key: str) -> Put:
        return lambda new: put(rebuild({**inside, key: new}))

    fields = [*inside]
    if _injects(inside):
        names = (*names, INJECTED)
        yield Site(names, inside, lambda new: put(rebuild(new)), injected=True)
    elif names and _is_node(x):
        yield Site(names, x, put)
        if isinstance(inside.get("inner"), Mapping):
            yield from _found(inside["inner"], names, put_at("inner"))
        # Slots hold parameters, whatever these are called; fields of optax's hold states.
        fields = [key for key in fields if key.endswith(("state", "states"))]
    for key in fields:
        told = key not in _WITHIN or _is_node(inside[key])
        yield from _found(inside[key], (*names, key) if told else names, put_at(key))


def _is_node(x: Any) -> bool:
    return isinstance(x, Mapping) and not NODE_KEYS.isdisjoint(x) and not _injects(x)


def _injects(inside: Mapping[str, Any]) -> bool:
    # An inner state without leaves is not there any more in a node of a jopt chain.
    numbers = inside.get("hyperparams")
    if "count" not in inside or not isinstance(numbers, Mapping) or DEFAULT in numbers:
        return False
    return not any(isinstance(v, Mapping) for v in numbers.values())


def children(x: Any) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any]] | None:
    """What a container holds, by name, and how to make one like it; `None` if it is none."""
    if x is None or hasattr(x, "dtype") or isinstance(x, str | bytes | int | float | complex):
        return None
    if type(x) is dict:
        keys = {str(k): k for k in x}
        if len(keys) != len(x):
            return None
        return {n: x[k] for n, k in keys.items()}, lambda new: {keys[n]: v for n, v in new.items()}
    keyed, treedef = jax.tree_util.tree_flatten_with_path(x, is_leaf=lambda y: y is not x)
    if len(keyed) == 1 and keyed[0][1] is x:  # to jax it is a leaf
        if not dataclasses.is_dataclass(x) or isinstance(x, type):
            return None
        fields = {f.name: getattr(x, f.name) for f in dataclasses.fields(x) if f.init}
        return fields, lambda new: dataclasses.replace(x, **new)
    inside = {part_of(keys[-1]): child for keys, child in keyed if keys}
    if len(inside) != len(keyed):
        return None
    return inside, lambda new: jax.tree.unflatten(treedef, new.values())


def replaced(x: Any, path: Path, value: Any) -> Any:
    """A container like `x` with `value` at `path`."""
    opened = children(x) if path else None
    if opened is None:
        return value
    inside, rebuild = opened
    return rebuild({**inside, path[0]: replaced(inside[path[0]], path[1:], value)})
