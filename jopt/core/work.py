"""One leaf on its way through a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from jopt.core.checks import is_sparse
from jopt.core.side_by_side import NONE, Numbers
from jopt.core.spec import Spec
from jopt.core.transform import Add, Flow, Leaves
from jopt.numerics import cast, compute_dtype


@dataclass
class Work:
    """One leaf on its way through a rule: what goes in, and what the door puts back.

    `stored` is what the state holds of `slots`; `measured` what a door already knows of the new
    slots that their codec wants to know. `step` is what dither goes by. With an `add`, a door may
    give the parameter `moved` by its update for that update; `written` is what it has stored
    already.
    """

    index: int
    g: Any
    p: Any
    slots: dict[str, Any]
    stored: dict[str, Any]
    numbers: Numbers = NONE
    update: Any = None
    measured: dict[str, Any] = field(default_factory=dict)
    step: Any = None
    add: Add | None = None
    moved: Any = None
    written: dict[str, Any] = field(default_factory=dict)


def given_back(spec: Spec, flow: Flow, leaves: Leaves, work: Mapping[int, Work]) -> Leaves:
    """The updates of all leaves: what the rule gave; where it did not run, zeros or what came."""
    updates: Leaves = []
    for i, leaf in enumerate(leaves):
        if i in work and work[i].moved is not None:
            updates.append(None)
        elif i in work:
            u = work[i].update
            steps = spec.steps and not is_sparse(u)
            updates.append(cast(u, compute_dtype(leaf.dtype)) if steps else u)
        elif spec.steps and spec.sparse == "no" and i not in flow.layout.still:
            updates.append(jnp.zeros(leaf.shape, leaf.dtype))
        else:
            updates.append(flow.updates[i])
    return updates
