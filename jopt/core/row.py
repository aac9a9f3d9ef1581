"""A row of parts at work, and what of it rests where no step was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.checks import on_values
from jopt.core.flow import Add, Flow, Leaves, Part, State


def through(parts: Mapping[str, Part], flow: Flow, state: State) -> tuple[Flow, State]:
    """The flow after all parts, one after the other, and their new nodes."""
    if parts and flow.took is not None:
        return _if_took(parts, flow, state)
    new, behind = State(), dict(parts)
    for label, part in parts.items():
        del behind[label]
        if behind and part.leads:
            nodes = {k: state[k] for k in behind}
            flow, new[label], others = part.lead(flow, state[label], behind, nodes)
            return flow, {**new, **others}
        flow, new[label] = part.update(flow, state[label])
        if behind and flow.took is not None:
            flow, others = _if_took(behind, flow, state)
            return flow, {**new, **others}
    return flow, new


def stepped(parts: Mapping[str, Part], flow: Flow, state: State, add: Add) -> tuple[Leaves, State]:
    """The same with the parameters the updates lead to: the last part adds them."""
    new, behind = State(), dict(parts)
    for label, part in parts.items():
        if flow.took is not None:
            break
        del behind[label]
        if not behind:
            leaves, new[label] = part.step(flow, state[label], add)
            return leaves, new
        if part.leads:
            nodes = {k: state[k] for k in behind}
            leaves, new[label], others = part.lead_step(flow, state[label], behind, nodes, add)
            return leaves, {**new, **others}
        flow, new[label] = part.update(flow, state[label])
    flow, others = through(behind, flow, state)
    return flow.plus(flow.updates, add), {**new, **others}


def _if_took(parts: Mapping[str, Part], flow: Flow, state: State) -> tuple[Flow, State]:
    # A choice within the same kernels, not a branch: what it would spare was read before.
    took = jnp.asarray(flow.took)
    after, new = through(parts, replace(flow, took=None), state)
    nodes = {label: only_if(took, new[label], state[label]) for label in parts}
    updates = [only_where(took, u) for u in after.updates]
    both = took if after.took is None else took & after.took
    return replace(after, updates=updates, took=both), nodes


def only_where(condition: Array, u: Any) -> Any:
    """An update where `condition` holds, else zero."""
    if u is None:
        return None
    return on_values(u, lambda x: jnp.where(condition, x, jnp.zeros_like(x)))


def only_if(condition: Array, new: Any, old: Any) -> Any:
    """`new` where `condition` holds, else `old`, leaf by leaf; what only `new` has stays."""
    if isinstance(new, dict):
        return {k: only_if(condition, v, old[k]) if k in old else v for k, v in new.items()}
    return new if new is old else jnp.where(condition, new, old)
