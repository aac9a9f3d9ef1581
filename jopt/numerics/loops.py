"""Loops, under `jax.vmap` on explicit axes too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import Array

from jopt.numerics.explicit import on_mesh

T = TypeVar("T")


def while_loop(goes_on: Callable[[T], Array], body: Callable[[T], T], start: T) -> T:
    """`jax.lax.while_loop` that may start from what no mesh holds, as a constant of NumPy's.

    Over an axis that is split on explicit axes jax batches only loops all of whose values are on
    the mesh that there is, and those of the body are.
    """
    found: T = jax.lax.while_loop(goes_on, body, jax.tree.map(on_mesh, start))
    return found
