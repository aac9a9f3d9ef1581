"""L-BFGS: optax has the pairs and what they were made of, jopt their products, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from jopt.base import StateError
from jopt.core.nested import flatten_dict
from jopt.core.paths import Path
from jopt.interop.optax.states import Held

KIND = "ScaleByLBFGSState"
HELD = ("s", "y", "prev_grad", "n_iter", "d", "sy")
"""The slots of which optax has an array. Of a ring pair n lies in row n mod m there, too."""

Ways = tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]


class Pairs:
    """The arrays of one L-BFGS in an optax state, and what jopt makes of them."""

    def __init__(self, who: str, slots: Sequence[Held], params: Mapping[Path, Any]) -> None:
        self.who, self.params = who, params
        self.held = {(h.slot, h.leaf): h.value for h in slots if KIND in h.kinds}
        # Of the line search behind it, if there is one.
        self.lengths = [h.value for h in slots if h.slot == "step_size"]

    def maker(self, node: Mapping[str, Any], entry: str, leaf: Path) -> Callable[[], Any] | None:
        """What makes an array of which optax has none; `None` if it has, or no L-BFGS at all."""
        if not self.held or entry in HELD or (entry == "t" and self.lengths):
            return None
        old = flatten_dict(node[entry])[leaf]
        return lambda: jnp.asarray(self.made.get(entry, old), old.dtype)

    def ways(self, node: Mapping[str, Any], entry: str, leaf: Path) -> Ways:
        """What makes jopt's array of optax's, and back, where they are not the same."""
        if entry == "d":  # optax keeps where the last step began, and jopt which way it went
            param, length = self.params[leaf], self._length
            began = self._step != 0
            return (
                lambda x: (param - x) / length if began else jnp.zeros_like(param),
                lambda d: param - _far(node).astype(d.dtype) * d if _steps(node) else 0 * d,
            )
        if entry == "sy":
            dtype = node["sy"][leaf_of(node["sy"])].dtype
            return (lambda _: jnp.asarray(self.made["sy"], dtype)), _weights
        return None, None

    @property
    def _step(self) -> int:
        return int(self.held["n_iter", ()])

    @property
    def _length(self) -> float:
        return float(self.lengths[0]) or 1.0 if self.lengths else 1.0

    @cached_property
    def made(self) -> dict[str, Any]:
        """What optax has no array of."""
        n, leaves = self._step, [leaf for slot, leaf in self.held if slot == "prev_grad"]
        s, y = (_rows([self.held[slot, leaf] for leaf in leaves]) for slot in ("s", "y"))
        (g,) = _rows([np.asarray(self.held["prev_grad", leaf])[None] for leaf in leaves])
        pairs, most = max(n - 1, 0), len(s)
        weights = np.asarray(self.held["sy", ()])[: min(pairs, most)]
        if np.any(weights <= 0):
            raise StateError(
                self.who,
                "optax has pairs without positive curvature, which jopt leaves out",
                path="weights_memory",
                expected="positive weights",
                found=f"{weights.min():g}",
            )
        sy, yy, newest = s @ y.T, y @ y.T, (pairs - 1) % most
        h_diag = sy[newest, newest] / yy[newest, newest] if pairs else 1.0
        return {
            "sy": sy,
            "yy": yy,
            "s_g": s @ g,
            "y_g": y @ g,
            "h_diag": h_diag,
            "t": self._length if n else 0.0,
            "n_pairs": pairs,
            "n_leaves": len(leaves) if n else 0,
            "leaf_iter": n,
            "func_evals": n,
        }


def leaf_of(shared: Mapping[str, Any]) -> str:
    """The one group that a slot shared by all parameters is kept for."""
    (name,) = shared
    return name


def _steps(node: Mapping[str, Any]) -> int:
    return int(node["n_iter"][leaf_of(node["n_iter"])])


def _far(node: Mapping[str, Any]) -> Any:
    return jnp.asarray(node["t"][leaf_of(node["t"])])


def _weights(sy: Any) -> Any:
    diagonal = jnp.diagonal(sy)
    return jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0)


def _rows(arrays: Sequence[Any]) -> Any:
    """Arrays of m rows as one of float64, complex entries as two."""
    flat = [np.ascontiguousarray(np.asarray(x).reshape(len(x), -1)) for x in arrays]
    reals = [x.view(x.real.dtype) if np.iscomplexobj(x) else x for x in flat]
    return np.concatenate([x.astype(np.float64) for x in reals], 1)
