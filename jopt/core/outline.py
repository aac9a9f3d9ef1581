"""The outline of a state: which of its entries hold one array for each parameter.

`optax.tree.map_params` asks any transform that way: it calls `init` with an object that stands
for all parameters, and looks where the state has it. A jopt state is made for one parameter
with a name that nobody else has; its entries then show what they follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jopt.base import TreeError
from jopt.core.tree import EVERY, Tree, structure_of

# A matrix, large enough for 8-bit slots to be stored as such and narrow enough to have a master;
# and a vector, for there are slots that only one of them has.
_STAND_INS = tuple(jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((64, 64), (4096,)))


def is_stand_in(params: Tree) -> bool:
    """Whether `params` is one node without leaves, of a class of its own."""
    if params is None or isinstance(params, Mapping | Sequence):
        return False
    treedef: Any = structure_of("init", params)
    return bool(treedef.num_leaves == 0 and treedef.num_nodes == 1)


def outline(init: Callable[[Tree], dict[str, Any]], mark: Any) -> dict[str, Any]:
    """The state with `mark` in place of each tree that has one array for every parameter.

    Trees with several arrays for a parameter, or with none for some, are one leaf, as are
    counts and numbers: to optax they are no parameters.
    """
    states = []
    for stand_in in _STAND_INS:
        try:
            states.append(jax.eval_shape(init, {EVERY: stand_in}))
        except TreeError:  # an optimizer for matrices only
            continue
    nodes = {label: [state[label] for state in states] for label in states[0]}
    return {label: _node(several, mark) for label, several in nodes.items()}


def _node(nodes: list[dict[str, Any]], mark: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, first in nodes[0].items():
        each = [node[key] for node in nodes]
        if key == "inner":
            made[key] = {label: _node([inner[label] for inner in each], mark) for label in first}
        else:
            made[key] = _entry(each, mark)
    return made


def _entry(entries: list[Any], mark: Any) -> Any:
    first = entries[0]
    if not isinstance(first, dict):
        return first
    held = [entry.get(EVERY) for entry in entries]
    if any(x is not None for x in held):
        return 0 if any(x is None or isinstance(x, dict) for x in held) else mark
    return {k: _entry([entry[k] for entry in entries], mark) for k in first} or 0
