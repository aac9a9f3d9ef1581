"""The node of a part as at the start of a run, in the middle of one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jopt.core.flow import Node, Part
from jopt.core.part import SpecPart

STAYS = frozenset({"hyperparams", "times", "given"})
"""What a node holds that is no memory of steps: its numbers, as they have been edited."""

COUNTS = frozenset({"leaf_count", "leaf_micro"})
"""What it may hold of leaves that a fresh one does not know."""


def anew(part: Part, fresh: Node, node: Node) -> Node:
    """`node` as the `fresh` one, in its own structure and with its own numbers.

    Keys of random numbers stay, so that nothing is drawn twice.
    """
    slots = (*part.slots, *part.shared) if isinstance(part, SpecPart) else ()
    stays = STAYS | {s.name for s in slots if s.dtype == "uint32"}
    made: Node = {}
    for entry, held in node.items():
        if entry in stays:
            made[entry] = held
        elif entry in COUNTS:
            made[entry] = jax.tree.map(jnp.zeros_like, held)
        elif entry == "inner":
            of = fresh[entry]
            made[entry] = {k: anew(part.wrapped[k], of[k], x) for k, x in held.items()}
        else:
            made[entry] = fresh[entry]
    return made
