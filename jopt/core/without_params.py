"""Updates without the parameters: where the step needs none, by what the spec declares."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import StateError, TreeError, plain
from jopt.core.checks import on_values
from jopt.core.groups import Group
from jopt.core.leaf import Outcome
from jopt.core.numbers import owners
from jopt.core.spec import Spec
from jopt.core.times import Times
from jopt.core.transform import Flow

FIX = "Call tx.update(grads, state, params)."


def check_spared(spec: Spec, numbers: Mapping[str, Any], groups: Mapping[str, Group]) -> None:
    """Raise `TreeError` if the rule reads the parameters' values, or may come to."""
    problem = "update needs the parameters"
    if spec.needs_params or (spec.steps and spec.params_by is None):
        raise TreeError(spec.name, problem, fix=FIX)
    for label, own in owners(numbers, groups) if spec.steps else ():
        for name in spec.params_by or ():
            value = plain(own.get(name, 0))
            if isinstance(value, Times):  # so many times 0, or another group's that is told of
                continue
            if not isinstance(value, int | float) or value != 0:
                where = f"{name} of group {label!r}"
                raise TreeError(spec.name, f"{problem} because of {where}", found=value, fix=FIX)


def seen(spec: Spec, flow: Flow, i: int) -> Any:
    """The parameter of a leaf as the rule sees it; where it is absent, zeros or `None`."""
    if flow.params is not None:
        return flow.params[i]
    g = flow.updates[i]
    return jnp.zeros(g.shape, g.dtype) if spec.steps else None


def spoiled(spec: Spec, outcomes: Sequence[Outcome], numbers: Mapping[str, Array]) -> list[Outcome]:
    """The same; updates of a group that should have seen the parameters after all are NaN.

    **Raises:** `StateError` where that is known: an edit has switched on what was off.
    """
    outcomes = [*outcomes]
    for name in spec.params_by or ():
        if name not in numbers:
            continue
        on = numbers[name] != 0
        if not isinstance(on, jax.core.Tracer):
            if on:
                problem, found = "is in force, and update did not get the parameters", numbers[name]
                raise StateError(
                    spec.name, f"{name} {problem}", expected="0", found=float(found), fix=FIX
                )
            continue
        nan = functools.partial(jnp.where, on, jnp.nan)
        outcomes = [replace(x, update=on_values(x.update, nan)) for x in outcomes]
    return outcomes
