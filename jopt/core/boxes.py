"""Flax's boxes: containers of one value that say how its axes are to be split on a mesh.

Linen's are `AxisMetadata`, such as `Partitioned`; nnx's are its `Variable`s. A leaf in a box is
called as the box is, not `bias/value`, and the parts of a transform never see a box. flax is
never imported here: without it there are no boxes.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
from jax.tree_util import PyTreeDef

Box = tuple[PyTreeDef, ...]
"""The boxes around a leaf from the outermost on, each as the structure of one around a leaf."""

KINDS = (("flax.core.meta", "AxisMetadata"), ("flax.nnx.variablelib", "Variable"))
"""The classes of boxes, by module and name."""


def opened(x: Any) -> tuple[Any, PyTreeDef] | None:
    """What is in a box, and the box without it; `None` if `x` is no box."""
    if not is_box(x):
        return None
    inside, treedef = jax.tree.flatten(x, is_leaf=lambda y: y is not x)
    return (inside[0], treedef) if len(inside) == 1 and inside[0] is not x else None


def is_box(x: Any) -> bool:
    """Whether `x` is an instance of one of the classes of boxes."""
    return isinstance(x, _kinds())


def _kinds() -> tuple[type, ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in KINDS)
    return tuple(kind for kind in found if isinstance(kind, type))
