"""Which declarations a node of a state can be of, when the state is all there is.

A node is as its `Spec` says, and does not say which that is. Its numbers and slots tell; its label,
which a user may choose, only decides between those that they leave.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from jopt.core.spec import NODE_KEYS, REGISTRY, Spec


def makers(label: str, node: Mapping[str, Any], numbers: Collection[str]) -> list[Spec]:
    """The declarations that have these numbers and the slots of the node.

    >>> import jax.numpy as jnp, jopt
    >>> node = jopt.adamw().init({"w": jnp.ones(2)})["adamw"]
    >>> [spec.name for spec in makers("adamw_2", node, ["b1", "eps"])]
    ['adamw']
    >>> "lion" in [spec.name for spec in makers("lion", node, ["b1", "b2"])]
    False
    """
    found = [spec for spec in REGISTRY.values() if spec.by_name.keys() >= set(numbers)]
    # A stage keeps slots of its own beside an optimizer's: then no declaration has all of them.
    found = [spec for spec in found if _keeps(spec, node)] or found
    return [spec for spec in found if spec.name == _bare(label)] or found


def has_maker(label: str, node: Mapping[str, Any]) -> bool:
    """Whether the label is that of a declaration, and the node could be of it."""
    spec = REGISTRY.get(_bare(label))
    return spec is not None and _keeps(spec, node)


def _keeps(spec: Spec, node: Mapping[str, Any]) -> bool:
    """Whether all that the node keeps is a slot of the declaration."""
    return node.keys() - NODE_KEYS <= {slot.name for slot in spec.slots}


def _bare(label: str) -> str:
    """The last part of a label without the number that `chain` gives it."""
    return re.sub(r"_\d+$", "", label.split("/")[-1])
