"""A torch run that can be stopped, saved and gone on with, and jopt steps on the same gradients.

Parameters and gradients are flat dicts of NumPy arrays, as in `tests.oracles.torch_live`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

import jopt
from tests.oracles.problems import Arrays
from tests.oracles.torch_live import TORCH_DTYPES, by_rows, rows

rows_of = jax.jit(rows)


class Torch:
    """A live torch optimizer over named leaves; `groups` are (paths, keys of the group)."""

    def __init__(
        self,
        name: str,
        kwargs: Mapping[str, Any],
        params: Arrays,
        dtype: Any,
        groups: Sequence[tuple[Sequence[str], Mapping[str, Any]]] = (),
        *,
        named: bool = False,
    ) -> None:
        self.name, self.named = name, named
        self.kind = dtype if isinstance(dtype, torch.dtype) else TORCH_DTYPES[np.dtype(dtype)]
        self.leaves = {
            k: torch.tensor(v, dtype=self.kind).requires_grad_() for k, v in params.items()
        }
        rows = groups or [(list(params), {})]
        self.optimizer = getattr(torch.optim, name)(
            [{"params": self._given(paths), **own} for paths, own in rows], **kwargs
        )

    def _given(self, paths: Sequence[str]) -> list[Any]:
        if self.named:
            return [(k.replace("/", "."), self.leaves[k]) for k in paths]
        return [self.leaves[k] for k in paths]

    def run(self, grads: Arrays, steps: range, present: np.ndarray | None = None) -> Torch:
        """These steps; `present[step][leaf]` says which gradients there are."""
        for t in steps:
            for i, (k, leaf) in enumerate(self.leaves.items()):
                g = torch.tensor(grads[k][t], dtype=self.kind)
                here = present is None or present[t, i]
                leaf.grad = (g.to_sparse(1) if by_rows(self.name) else g) if here else None
            self.optimizer.step()
        return self

    @property
    def params(self) -> Arrays:
        """Copies; bfloat16 as float32."""
        wide = {k: v.detach() for k, v in self.leaves.items()}
        return {
            k: (v.float() if v.dtype is torch.bfloat16 else v).numpy().copy()
            for k, v in wide.items()
        }

    def saved(self) -> dict[str, Any]:
        """The state dict after a trip through `torch.save`."""
        return through_a_file(self.optimizer.state_dict())


def through_a_file(state_dict: Any) -> Any:
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def tree(flat: Mapping[str, Any], dtype: Any = None) -> Any:
    """The nested dict of jax arrays."""
    return unflatten_dict({k: jnp.asarray(v, dtype) for k, v in flat.items()}, sep="/")


def flat(params: Any) -> Arrays:
    return {k: np.asarray(v) for k, v in flatten_dict(params, sep="/").items()}


def steps_of_jopt(
    tx: jopt.Transform,
    params: Any,
    state: Any,
    grads: Arrays,
    steps: range,
    *,
    present: np.ndarray | None = None,
    sparse: bool = False,
) -> tuple[Any, Any]:
    """These steps of jopt: the parameters and the state after them.

    Not compiled as a whole: the rules are, once for all numbers, and the runs are short.
    """
    like = flat(params)
    for t in steps:
        g = {
            k: jnp.asarray(grads[k][t], like[k].dtype) if present is None or present[t, i] else None
            for i, k in enumerate(grads)
        }
        g = unflatten_dict({k: rows_of(x) if sparse else x for k, x in g.items()}, sep="/")
        updates, state = tx.update(g, state, params)
        params = jopt.apply_updates(params, updates)
    return params, state


def distance(ours: Arrays, theirs: Arrays) -> float:
    """The largest difference, relative to each leaf's largest value."""
    assert ours.keys() == theirs.keys()
    gaps = [0.0]
    for k, b in theirs.items():
        assert ours[k].shape == b.shape
        assert np.isfinite(ours[k]).all()
        if b.size:
            gaps.append(float(np.max(np.abs(ours[k] - b)) / np.max(np.abs(b))))
    return max(gaps)
