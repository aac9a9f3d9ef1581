"""L-BFGS: torch keeps one dict of flat vectors for all parameters, jopt a history of each leaf."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jopt.core.groups import DEFAULT
from jopt.core.nested import lookup, nest
from jopt.core.transform import Node
from jopt.interop.torch.states.members import Member
from jopt.interop.torch.states.slots import like, no_step
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.tensors import Array, counted, fitted, sent
from jopt.numerics import compute_dtype, is_complex, real_dtype, widest

_COUNTS = ("n_iter", "func_evals")
_ROWS = {"old_stps": "s", "old_dirs": "y"}
_VECTORS = {"d": "d", "prev_flat_grad": "prev_grad"}
_SCALARS = {"H_diag": "h_diag", "t": "t", "prev_loss": "prev_loss"}


class Flat:
    """Torch's one entry, and the node of `jopt.lbfgs`: what `slots.Buffers` is to others.

    Its vectors have every parameter's entries in torch's order, complex ones as two.
    """

    def __init__(self, target: Target, node: Node, cast: bool = False) -> None:
        self.target, self.node, self.cast = target, node, cast
        self.lines: list[str] = []

    def _of(self, members: Sequence[Member]) -> None:
        """The vectors are of these parameters."""
        self.members = members
        # Entries of narrower parameters stand in vectors of torch's widest.
        self.dtype: np.dtype[Any] = widest(*(real_dtype(m.param.dtype) for m in members))
        self.sizes = [math.prod(m.shape) * (1 + is_complex(m.param.dtype)) for m in members]

    def _split(self, array: Array) -> dict[int, Array]:
        """A flat vector as an array for every leaf that is not frozen."""
        parts = np.split(array, np.cumsum(self.sizes)[:-1])
        found: dict[int, Array] = {}
        for m, part in zip(self.members, parts, strict=True):
            if m.moves:
                wide = np.dtype(compute_dtype(m.param.dtype))
                x = part.astype(real_dtype(wide))
                x = (x.view(wide) if is_complex(wide) else x).reshape(m.shape_there)
                found.setdefault(m.leaf, np.zeros(m.param.shape, wide))[m.layer] = m.back(x)
        return found

    def _join(self, arrays: Mapping[int, Array]) -> Array:
        """The reverse; what no array is given for is zero."""
        parts = []
        for m in self.members:
            x = np.zeros(m.shape, compute_dtype(m.param.dtype))
            x = np.ravel(m.turned(arrays[m.leaf][m.layer] if m.leaf in arrays else x))
            parts.append(x.view(x.real.dtype) if np.iscomplexobj(x) else x)
        return np.concatenate(parts)

    def read(self, members: Sequence[Member], entries: Mapping[Any, Any]) -> None:
        """The entry of the first parameter, which is that of all."""
        self._of(members)
        late = [m for m in members[1:] if entries.get(m.id)]
        self.lines += [f"{m.shown}: state is unexpected" for m in late]
        self.entry: Any = (entries.get(members[0].id) if members else None) or {}
        if not isinstance(self.entry, Mapping):
            found = f"its state is no dict but a {type(self.entry).__name__}"
            self.lines.append(f"{members[0].shown}: {found}")

    def counts(self, node: Node, given: int | None) -> tuple[Node, int | None]:
        """The node of `jopt.lbfgs` for torch's state, and the steps taken."""
        if not isinstance(self.entry, Mapping):
            return node, given
        entry = {k: v for k, v in self.entry.items() if v is not None}
        scalars = {k: v for k, v in _SCALARS.items() if v in node}
        iterated = {*_ROWS, *_VECTORS, *scalars, "ro"}
        surplus = set(entry) - {*_COUNTS, *_ROWS, *_VECTORS, *_SCALARS, "ro", "al"}
        self.lines += [f"{k} is unexpected" for k in sorted(surplus, key=str)]
        if "count" in node:
            if "schedules" in node and entry and given is None:
                self.lines.append(no_step(self.target))
            given = given or 0
            node = {**node, "count": like(jnp.int32(given), node["count"])}
        counts = {k: counted(self.lines, k, entry.get(k)) or 0 for k in _COUNTS if entry}
        if counts.get("n_iter"):
            self.lines += [f"{k} is missing" for k in sorted(iterated - set(entry))]
            if iterated <= set(entry):
                node = self._iterated(node, entry, scalars)
        node = node | {k: {DEFAULT: _typed(n, node[k][DEFAULT])} for k, n in counts.items()}
        ages = dict.fromkeys(self.target.live, np.asarray(counts.get("n_iter", 0)))
        return {**node, "leaf_iter": _leaves(self.target, node["leaf_iter"], ages)}, given

    def slots(self, node: Node) -> Node:
        """The node, which has all that was read."""
        return node

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        """`value` as an array of this shape; zeros if it is none."""
        # The slots are wider than torch's vectors where parameters are narrow.
        dtype = compute_dtype(self.dtype) if shape else None
        array = fitted(self.lines, name, value, shape, dtype, self.cast, one=not shape)
        return np.zeros(shape) if array is None else array

    def _vector(self, name: str, value: Any) -> dict[int, Array]:
        return self._split(self._array(name, value, (sum(self.sizes),)))

    def _rows(self, name: str, value: Any, most: int) -> list[dict[int, Array]]:
        """`value` as a list of vectors."""
        if not isinstance(value, list | tuple) or len(value) > most:
            found = f"{len(value)}" if isinstance(value, list | tuple) else type(value).__name__
            self.lines.append(f"{name}: expected a list of at most {most} vectors, found {found}")
            return []
        return [self._vector(f"{name}[{i}]", v) for i, v in enumerate(value)]

    def _iterated(self, node: Node, entry: Mapping[str, Any], scalars: Mapping[str, str]) -> Node:
        """The node with the vectors and histories of a run that has made an iteration."""
        target, most = self.target, node["sy"][DEFAULT].shape[0]
        rows = {ours: self._rows(k, entry[k], most) for k, ours in _ROWS.items()}
        vectors = {ours: self._vector(k, entry[k]) for k, ours in _VECTORS.items()}
        known: dict[str, Any] = {ours: self._array(k, entry[k], ()) for k, ours in scalars.items()}
        s, y = rows["s"], rows["y"]
        if len(s) != len(y):
            found = f"{len(s)} and {len(y)}"
            self.lines.append(f"old_stps and old_dirs: expected as many of each, found {found}")
            return node
        g = _row(vectors["prev_grad"])
        s_flat, y_flat = np.zeros((2, most, g.size))
        for table, pairs in ((s_flat, s), (y_flat, y)):
            for i, pair in enumerate(pairs):
                table[i] = _row(pair)
        known |= {"sy": s_flat @ y_flat.T, "yy": y_flat @ y_flat.T, "s_g": s_flat @ g}
        known |= {"y_g": y_flat @ g, "n_pairs": len(s), "n_leaves": len(target.live)}
        new = node | {k: {DEFAULT: _typed(v, node[k][DEFAULT])} for k, v in known.items()}
        new |= {k: _leaves(target, node[k], row) for k, row in vectors.items()}
        for key, pairs in rows.items():
            # Torch's oldest pair, its first, goes to row 0: the ring is as one that was just begun.
            stacks = {
                i: np.stack([pair[i] for pair in pairs] + [np.zeros_like(x)] * (most - len(pairs)))
                for i, x in vectors["d"].items()
            }
            new[key] = _leaves(target, node[key], stacks)
        return new

    def write(self, members: Sequence[Member], eager: bool) -> dict[Any, Any]:
        """Torch's state for the node.

        Where jopt would start anew at the next step, since a leaf sat out, torch is to do so too.
        """
        self._of(members)
        target, node = self.target, self.node
        paths = {i: target.layout.paths[i] for i in target.live}
        shared = {s.name: np.asarray(node[s.name][DEFAULT]) for s in target.part.shared}
        n_iter, evaluations = int(shared["n_iter"]), int(shared["func_evals"])
        fits = all(int(lookup(node["leaf_iter"], path)) == n_iter for path in paths.values())
        if n_iter == 0 or int(shared["n_leaves"]) != len(paths) or not fits:
            entry: dict[str, Any] = {"func_evals": evaluations, "n_iter": 0}
            return {members[0].id: entry} if evaluations else {}

        def tensor(name: str, array: Any) -> Any:
            return sent(self.lines, f"{name} is", array, self.dtype)

        def vector(name: str, slot: str, row: Any = ...) -> Any:
            held = {i: np.asarray(lookup(node[slot], path))[row] for i, path in paths.items()}
            return tensor(name, self._join(held))

        m, n = shared["sy"].shape[0], int(shared["n_pairs"])
        order = [(n - k) % m for k in range(min(n, m), 0, -1)]  # the oldest first
        entry = {
            "func_evals": evaluations,
            "n_iter": n_iter,
            **{key: vector(key, ours) for key, ours in _VECTORS.items()},
            **{key: [vector(key, ours, i) for i in order] for key, ours in _ROWS.items()},
            "ro": [tensor("ro", 1 / shared["sy"][i, i]) for i in order],
            "H_diag": tensor("H_diag", shared["h_diag"]),
            "t": float(shared["t"]),
            "al": [None] * m,
        }
        if "prev_loss" in shared:
            entry["prev_loss"] = float(shared["prev_loss"])
        return {members[0].id: entry}


def _row(arrays: Mapping[int, Array]) -> Array:
    """All leaves' entries in one row of float64, complex ones as two."""
    rows = [np.ravel(x) for x in arrays.values()]
    reals = [x.view(x.real.dtype) if np.iscomplexobj(x) else x for x in rows]
    return np.concatenate([x.astype(np.float64) for x in reals])


def _typed(value: Any, old: Any) -> Any:
    return like(jnp.array(np.asarray(value).astype(old.dtype)), old)


def _leaves(target: Target, old: Any, arrays: Mapping[int, Array]) -> Any:
    paths = [target.layout.paths[i] for i in target.live]
    return nest(
        paths, [_typed(arrays[i], lookup(old, p)) for i, p in zip(target.live, paths, strict=True)]
    )
