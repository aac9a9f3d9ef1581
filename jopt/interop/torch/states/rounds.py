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
from jopt.core.nested import has, lookup, merged, nest
from jopt.core.transform import Node, Part, State
from jopt.interop.torch.states.members import Member
from jopt.interop.torch.states.slots import like, parameter_dtype
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.tensors import Array, Lines, counted, fitted, sent


@dataclass(frozen=True)
class Round:
    """An `accumulate` around an optimizer.

    **Attributes:** `keys`, the labels down to its node; `every`, how many gradients make a round;
    `node`, its node; `micro`, how many gradients are in.
    """

    keys: tuple[str, ...]
    every: int
    node: Node

    @property
    def micro(self) -> int:
        """How many gradients are in the sum; 0 at the end of a round."""
        return int(self.node["micro"])

    def gradients(self, members: Sequence[Member], lines: Lines) -> dict[Any, Any]:
        """By torch's ids what `p.grad` holds in torch, where each loss is divided by the round."""
        out: dict[Any, Any] = {}
        for m in members if self.micro else ():
            if not has(self.node["sum"], m.path):
                continue
            if has(self.node.get("leaf_micro", {}), m.path):
                lines.append(f"{m.shown}: it joined in the middle of the round")
                continue
            total: Array = np.asarray(lookup(self.node["sum"], m.path))[m.layer]
            mean, dtype = total / total.dtype.type(self.every), parameter_dtype(total, m.param)
            out[m.id] = sent(lines, f"{m.shown}: its gradients are", m.weight.there(mean), dtype)
        return out

    def lost(self, who: str, target: Target) -> CheckpointError:
        """What an export would lose that has no place for the round."""
        leaves = zip(target.layout.names, target.layout.paths, strict=True)
        summed = [name for name, path in leaves if has(self.node["sum"], path)]
        shown = ", ".join(summed[:6]) + (", ..." if len(summed) > 6 else "")
        return CheckpointError(
            who,
            "the state stands in the middle of a round, and a state dict of torch's has no place "
            "for its gradients",
            path="/".join(self.keys),
            expected="the end of a round",
            found=f"the sum of {self.micro} of {self.every} gradients, of {shown}",
            fix="Export after the step (flush=True ends a round early), or with mid_round=True: "
            "the result then has 'grads' beside, what p.grad holds in torch.",
        )


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
        yield Round((*above, head), int(part.choices["every"]), node)
    if rest:
        yield from _around(part.wrapped, tuple(rest), node["inner"], (*above, head))


def put_gradients(
    around: Round | None, given: Mapping[str, Any], members: Sequence[Member], lines: Lines
) -> Node | None:
    """The node of a round in the middle that `gradients` wrote."""
    below = 2**31 if around is None else around.every
    grads, micro = given.get("grads") or {}, counted(lines, "micro", given.get("micro", 0), below)
    if not grads or not micro:
        return None
    if around is None:
        lines.append("grads: the file stands in the middle of a round; tx has no accumulate")
        return None
    if not isinstance(grads, Mapping):
        lines.append(f"grads: expected a dict by parameter, found a {type(grads).__name__}")
        return None
    node, sums = around.node, dict[Any, Array]()
    for m in members:
        if not has(node["sum"], m.path):
            continue
        dtype = lookup(node["sum"], m.path).dtype
        value = grads.get(m.id, np.zeros(m.shape_there, dtype))
        array = fitted(lines, f"{m.shown}: grads", value, m.shape_there, dtype)
        if array is not None:
            sums.setdefault(m.path, np.zeros(m.param.shape, dtype))[m.layer] = m.weight.here(array)
    new = {path: jnp.asarray(x) * around.every for path, x in sums.items()}
    new = {path: like(x, lookup(node["sum"], path)) for path, x in new.items()}
    fresh = merged(node["sum"], nest(new, new.values()))
    count = like(jnp.asarray(micro, node["micro"].dtype), node["micro"])
    return {**node, "sum": fresh, "micro": count}
