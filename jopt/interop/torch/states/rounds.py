"""A round of micro-batches in its middle: the gradients so far, which torch has in `p.grad`.

A state dict of torch's has no place for them. An export says so, or gives them beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jopt.base import CheckpointError
from jopt.core import Transform
from jopt.core.nested import has, lookup, nest
from jopt.core.transform import Node, Part, State
from jopt.interop.torch.states.places import Member
from jopt.interop.torch.states.slots import like, parameter_dtype
from jopt.interop.torch.states.targets import Target, node_at
from jopt.interop.torch.tensors import Array, fitted, narrowed, to_torch, whole


@dataclass(frozen=True)
class Round:
    """An `accumulate` around an optimizer.

    **Attributes:** `keys`, the labels down to its node; `every`, how many gradients make a round.
    """

    keys: tuple[str, ...]
    every: int

    def node(self, state: State) -> Node:
        """Its node in a state."""
        return node_at(state, self.keys)


def round_of(tx: Transform, target: Target, state: State) -> Round | None:
    """The `accumulate` around an optimizer; of one within another, the inner one."""
    found = list(_around(tx.parts, target.keys, state, ()))
    return found[-1] if found else None


def _around(
    parts: Mapping[str, Part], keys: tuple[str, ...], state: Any, above: tuple[str, ...]
) -> Iterator[Round]:
    head, *rest = keys
    part, node = parts[head], state[head]
    if isinstance(node, dict) and {"micro", "sum"} <= set(node):
        yield Round((*above, head), int(part.choices["every"]))
    if rest:
        yield from _around(part.wrapped, tuple(rest), node["inner"], (*above, head))


def gradients(
    who: str, target: Target, around: Round, state: State, members: Sequence[Member]
) -> tuple[dict[Any, Any], list[str]]:
    """By torch's ids what `p.grad` holds in torch, where each loss is divided by the round."""
    node, out, lines = around.node(state), {}, []
    sums = target.parted(node["sum"])
    for m in members:
        path, p = target.layout.paths[m.leaf], target.params[m.leaf]
        if not int(node["micro"]) or not has(sums, path):
            continue
        if has(node.get("leaf_micro", {}), target.path(m.leaf)):
            lines.append(f"{m.shown(target)}: it joined in the middle of the round")
            continue
        total: Array = np.asarray(lookup(sums, path))
        small = narrowed(total / total.dtype.type(around.every), parameter_dtype(total, p))
        if small is None:
            lines.append(f"{m.shown(target)}: its gradients are beyond {np.dtype(p.dtype).name}")
            continue
        out[m.id] = to_torch(who, m.shown(target), m.turned(small))
    return out, lines


def lost(who: str, target: Target, around: Round, state: State) -> CheckpointError:
    """What an export would lose that has no place for the round."""
    node = around.node(state)
    sums, leaves = target.parted(node["sum"]), target.layout
    summed = [n for n, path in zip(leaves.names, leaves.paths, strict=True) if has(sums, path)]
    shown = ", ".join(summed[:6]) + (", ..." if len(summed) > 6 else "")
    return CheckpointError(
        who,
        "the state stands in the middle of a round, and a state dict of torch's has no place for "
        "its gradients",
        path="/".join(around.keys),
        expected="the end of a round",
        found=f"the sum of {int(node['micro'])} of {around.every} gradients, of {shown}",
        fix="Export after the step (flush=True ends a round early), or with mid_round=True: the "
        "result then has 'grads' beside, what p.grad holds in torch.",
    )


def is_open(around: Round, state: State) -> bool:
    """Whether the state stands in the middle of the round."""
    return int(around.node(state)["micro"]) > 0


def put_gradients(
    target: Target,
    around: Round | None,
    state: State,
    given: Mapping[str, Any],
    members: Sequence[Member],
) -> tuple[State, list[str]]:
    """The state in the middle of the round that `gradients` had written, and what does not fit."""
    grads, micro = given.get("grads") or {}, whole(given.get("micro", 0))
    if not grads or micro == 0:
        return state, []
    if around is None:
        return state, ["grads: the file stands in the middle of a round; tx has no accumulate"]
    if isinstance(micro, str) or micro >= around.every:
        return state, [f"micro: expected a number below {around.every}, found {micro}"]
    if not isinstance(grads, Mapping):
        return state, [f"grads: expected a dict by parameter, found a {type(grads).__name__}"]
    node, lines, sums = around.node(state), [], {}
    before = target.parted(node["sum"])
    for m in members:
        path = target.layout.paths[m.leaf]
        if not has(before, path):
            continue
        old = lookup(before, path)
        value = grads.get(m.id, np.zeros(m.shape(target), old.dtype))
        array = fitted(f"{m.shown(target)}: grads", value, m.shape(target), old.dtype)
        if isinstance(array, str):
            lines.append(array)
            continue
        sums[path] = like(jnp.asarray(m.back(array), old.dtype) * around.every, old)
    if lines:
        return state, lines
    fresh = target.joined(_merged(before, nest(sums, sums.values())), node["sum"])
    count = like(jnp.asarray(micro, node["micro"].dtype), node["micro"])
    return target.put(state, {**node, "sum": fresh, "micro": count}, around.keys), []


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {k: _merged(v, new[k]) if k in new else v for k, v in old.items()}
    return new
