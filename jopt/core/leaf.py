"""One leaf on its way through a rule: what it brings in, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from jopt.core.checks import is_sparse
from jopt.core.side_by_side import NONE, Numbers
from jopt.core.spec import Spec
from jopt.core.stack import Stack
from jopt.core.transform import Add, Flow
from jopt.numerics import cast, compute_dtype
from jopt.numerics.repeated import traced


@dataclass(frozen=True)
class Leaf:
    """What a leaf brings in; the part fills it, and nothing changes it.

    - `index`, `name`: which of the layout's it is.
    - `g`, `p`: gradient and parameter, which may be absent.
    - `stored`, `slots`: what the state holds of its slots, and their values, as rules see them.
    - `numbers`: what its rule reads beside; `age`: leaves of one age read the same step.
    - `step`: what dither goes by.
    - `add`: if there is one, a door may move the parameter itself.
    - `stack`: how the leaf holds its tensors, where it is not one as it is.
    - `resting`: what is stored as it rests, where that is in the host's memory.
    """

    index: int
    name: str
    g: Any
    p: Any
    stored: Mapping[str, Any]
    slots: Mapping[str, Any]
    step: Any = None
    add: Add | None = None
    stack: Stack | None = None
    resting: Mapping[str, Any] = field(default_factory=dict)
    numbers: Numbers = NONE
    age: Any = None

    def but(self, **entries: Any) -> Leaf:
        """The same but for these entries. As `dataclasses.replace`, which every leaf would feel."""
        made = object.__new__(Leaf)
        vars(made).update(vars(self) | entries)
        return made


def read_once(leaves: Sequence[Leaf]) -> list[Leaf]:
    """These leaves with the numbers that they read in common taken out of their array, in a trace.

    A rule that takes them out itself does so once for each leaf in the program that XLA begins
    with: of so many leaves that is a fifth of what it takes to compile.
    """
    read: dict[int, Numbers] = {}

    def one(numbers: Numbers) -> Numbers:
        if numbers.own is not None or not traced(numbers.row):
            return numbers
        if id(numbers) not in read:
            read[id(numbers)] = Numbers.of(numbers.read())
        return read[id(numbers)]

    return [leaf.but(numbers=one(leaf.numbers)) for leaf in leaves]


@dataclass(frozen=True)
class Outcome:
    """What comes out of it; the door fills it, and the part puts it where it belongs.

    - `update`, or where the door has added it, the parameter `moved` by it.
    - `slots`: the new values, which the part stores; `measured`: what the door knows already of
      those whose codec wants to know something of a whole array.
    - `stored`: what the state holds of slots that the door has stored itself.
    """

    update: Any = None
    moved: Any = None
    slots: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, Any] = field(default_factory=dict)


def given_back(spec: Spec, flow: Flow, outcomes: Mapping[int, Outcome]) -> list[Any]:
    """The updates of all leaves: what the rule gave; where it did not run, zeros or what came.

    `None` where the parameter is moved already.
    """
    like: Sequence[Any] = flow.updates if flow.params is None else flow.params
    updates: list[Any] = []
    for i, leaf in enumerate(like):
        if i in outcomes:
            u = outcomes[i].update
            steps = spec.steps and u is not None and not is_sparse(u)
            updates.append(cast(u, compute_dtype(leaf.dtype)) if steps else u)
        elif spec.steps and spec.sparse == "no" and i not in flow.layout.still:
            updates.append(jnp.zeros(leaf.shape, leaf.dtype))
        else:
            updates.append(flow.updates[i])
    return updates
