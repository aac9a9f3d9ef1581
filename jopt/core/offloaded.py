"""Slots that rest in the host's memory: to the device for their leaf's step, and back.

Where a rule is for one leaf at a time, a leaf's slots are not asked for before those of the leaf
`AHEAD` of it are back: so much of the state is on the device at once, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax import Array

AHEAD = 2
"""While one leaf is stepped, the slots of the next one come."""


def in_host_memory(x: Any) -> bool:
    """Whether an array rests in the host's memory, by its type."""
    if not isinstance(x, Array):
        return False
    space = getattr(jax.typeof(x), "memory_space", None)  # jax 0.7 and newer say
    return space is not None and space is jax.memory.Space.Host


def brought_in(stored: Any) -> Any:
    """What is stored of a slot, in the device's memory."""

    def one(x: Any) -> Any:
        return jax.device_put(x, jax.memory.Space.Device) if in_host_memory(x) else x

    return jax.tree.map(one, stored)


def rests(stored: Any) -> bool:
    """Whether any of it is in the host's memory."""
    return any(map(in_host_memory, jax.tree.leaves(stored)))


def after(stored: Any, behind: Any) -> Any:
    """The same, for the compiler not to be had before `behind`."""
    return stored if behind is None else jax.lax.optimization_barrier((stored, behind))[0]


def put_back(new: Any, old: Any) -> Any:
    """What is to be stored, in the memory that the old one was in."""

    def one(x: Any, old: Any) -> Any:
        goes = in_host_memory(old) and not in_host_memory(x)
        return jax.device_put(x, jax.memory.Space.Host) if goes else x

    return jax.tree.map(one, new, old)


def entered(parts: Mapping[str, Any], state: Any) -> Any:
    """The state as these parts take it: all of it brought in, unless each brings in its own.

    What chooses between an old state and a new one has both on the device.
    """
    streams = all(part.streams for part in parts.values())
    return state if streams or not rests(state) else brought_in(state)


def left(new: Any, old: Any) -> Any:
    """The new state, in the memory that the old one rested in."""
    return put_back(new, old) if rests(old) else new
