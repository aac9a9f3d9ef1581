"""L-BFGS: torch keeps one dict of flat vectors for all parameters, jopt a history of each leaf.

The table is the slots of the spec, as in `slots`: a slot with torch's key is a flat vector there, a
list of them where it is a history, or a number where the group has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jopt.core.groups import DEFAULT
from jopt.core.nested import lookup, nest
from jopt.core.spec import Slot
from jopt.core.transform import Node
from jopt.interop.torch.states.members import Member
from jopt.interop.torch.states.slots import like, no_step
from jopt.interop.torch.states.targets import Target
from jopt.interop.torch.tensors import Array, Lines, counted, fitted, sent
from jopt.numerics import compute_dtype, is_complex, real_dtype, widest

_COUNTS = ("n_iter", "func_evals")
# What torch keeps beside: of the steps and gradients it follows, and room for a recursion.
_FOLLOWS, _ROOM = "ro", "al"


class Flat:
    """Torch's one entry, and the node of `jopt.lbfgs`: what `slots.Buffers` is to others.

    Its vectors have every parameter's entries in torch's order, complex ones as two.
    """

    def __init__(self, target: Target, node: Node, lines: Lines, cast: bool = False) -> None:
        self.target, self.node, self.lines, self.cast = target, node, lines, cast
        part = target.part
        self.leaves = {str(s.torch): s for s in part.slots if s.torch}
        self.numbers = {str(s.torch): s for s in part.shared if s.torch and s.torch not in _COUNTS}

    def _of(self, members: Sequence[Member]) -> None:
        """The vectors are of these parameters."""
        self.members = members
        # Entries of narrower parameters stand in vectors of torch's widest.
        self.dtype: np.dtype[Any] = widest(*(real_dtype(m.param.dtype) for m in members))
        self.sizes = [math.prod(m.shape) * (1 + is_complex(m.param.dtype)) for m in members]
        moves = np.array([m.moves for m in members], bool)
        self.moving: Array = np.repeat(moves, self.sizes)

    def _split(self, vector: Array) -> dict[int, Array]:
        """A flat vector as an array for every leaf that is not frozen."""
        parts = np.split(vector, np.cumsum(self.sizes)[:-1])
        found: dict[int, Array] = {}
        for m, part in zip(self.members, parts, strict=True):
            if m.moves:
                wide = np.dtype(compute_dtype(m.param.dtype))
                x = part.astype(real_dtype(wide))
                x = (x.view(wide) if is_complex(wide) else x).reshape(m.shape_there)
                found.setdefault(m.leaf, np.zeros(m.param.shape, wide))[m.layer] = m.weight.here(x)
        return found

    def _join(self, arrays: Mapping[int, Array]) -> Array:
        """The reverse; what no array is given for is zero."""
        parts = []
        for m in self.members:
            x = np.zeros(m.shape, compute_dtype(m.param.dtype))
            x = np.ravel(m.weight.there(arrays[m.leaf][m.layer] if m.leaf in arrays else x))
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
        known = {s.torch for s in self.target.part.spec.slots} | {_FOLLOWS, _ROOM}
        self.lines += [f"{k} is unexpected" for k in sorted(set(entry) - known, key=str)]
        if "count" in node:
            if "schedules" in node and entry and given is None:
                self.lines.append(no_step(self.target))
            given = given or 0
            node = {**node, "count": like(jnp.int32(given), node["count"])}
        counts = {k: counted(self.lines, k, entry.get(k)) or 0 for k in _COUNTS if entry}
        if counts.get("n_iter"):
            missing = {*self.leaves, *self.numbers, _FOLLOWS} - set(entry)
            self.lines += [f"{k} is missing" for k in sorted(missing)]
            node = node if missing else self._iterated(node, entry)
        ages = dict.fromkeys(self.target.live, np.asarray(counts.get("n_iter", 0)))
        return self._put(self._put(node, counts), {"leaf_iter": ages}), given

    def slots(self, node: Node) -> Node:
        """The node, which has all that was read."""
        return node

    def _put(self, node: Node, values: Mapping[str, Any]) -> Node:
        """The node with these slots, by leaves or one for the group."""
        paths = {i: self.target.layout.paths[i] for i in self.target.live}

        def typed(value: Any, old: Any) -> Any:
            return like(jnp.array(np.asarray(value).astype(old.dtype)), old)

        new = {}
        for name, value in values.items():
            if isinstance(value, dict):
                rows = [typed(value[i], lookup(node[name], path)) for i, path in paths.items()]
                new[name] = nest(paths.values(), rows)
            else:
                new[name] = {DEFAULT: typed(value, node[name][DEFAULT])}
        return {**node, **new}

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        """`value` as an array of this shape; zeros if it is none."""
        # The slots are wider than torch's vectors where parameters are narrow.
        dtype = compute_dtype(self.dtype) if shape else None
        array = fitted(self.lines, name, value, shape, dtype, self.cast, one=not shape)
        return np.zeros(shape) if array is None else array

    def _vectors(self, slot: Slot, value: Any, most: int) -> Array:
        """The flat vectors of a slot in float64, those of a history as rows."""
        size = (sum(self.sizes),)
        if slot.shape == "like":
            return self._array(str(slot.torch), value, size).astype(np.float64)
        if not isinstance(value, list | tuple) or len(value) > most:
            found = len(value) if isinstance(value, list | tuple) else type(value).__name__
            said = f"expected a list of at most {most} vectors, found {found}"
            self.lines.append(f"{slot.torch}: {said}")
            value = []
        rows = [self._array(f"{slot.torch}[{i}]", v, size) for i, v in enumerate(value)]
        return np.array(rows, np.float64).reshape(len(rows), *size)

    def _iterated(self, node: Node, entry: Mapping[str, Any]) -> Node:
        """The node with the vectors and histories of a run that has made an iteration."""
        most = node["sy"][DEFAULT].shape[0]
        flat = {s.name: self._vectors(s, entry[k], most) for k, s in self.leaves.items()}
        known = {s.name: self._array(k, entry[k], ()) for k, s in self.numbers.items()}
        n = len(flat["s"])
        if len(flat["y"]) != n:
            said = f"expected as many of each, found {n} and {len(flat['y'])}"
            self.lines.append(f"old_stps and old_dirs: {said}")
            return node
        slots: dict[str, Any] = {**known, "n_pairs": n, "n_leaves": len(self.target.live)}
        for name, vectors in flat.items():
            if vectors.ndim == 2:
                # Torch's oldest pair, its first, is in row 0: the ring is one that just began.
                flat[name] = vectors = np.pad(vectors, ((0, most - n), (0, 0)))
                rows = [self._split(row) for row in vectors]
                slots[name] = {i: np.stack([row[i] for row in rows]) for i in rows[0]}
            else:
                slots[name] = self._split(vectors)
        s, y, g = (flat[name] * self.moving for name in ("s", "y", "prev_grad"))
        return self._put(node, slots | {"sy": s @ y.T, "yy": y @ y.T, "s_g": s @ g, "y_g": y @ g})

    def write(self, members: Sequence[Member], eager: bool) -> dict[Any, Any]:
        """Torch's state for the node.

        Where jopt would start anew at the next step, since a leaf sat out, torch is to do so too.
        """
        self._of(members)
        target, node = self.target, self.node
        paths = {i: target.layout.paths[i] for i in target.live}
        shared = {s.name: np.asarray(node[s.name][DEFAULT]) for s in target.part.shared}
        counts = {"func_evals": int(shared["func_evals"]), "n_iter": int(shared["n_iter"])}
        ages = {int(lookup(node["leaf_iter"], path)) for path in paths.values()}
        if ages != {counts["n_iter"]} - {0} or int(shared["n_leaves"]) != len(paths):
            return {members[0].id: {**counts, "n_iter": 0}} if counts["func_evals"] else {}

        def tensor(name: str, array: Any) -> Any:
            return sent(self.lines, f"{name} is", array, self.dtype)

        m, n = shared["sy"].shape[0], int(shared["n_pairs"])
        order = [(n - k) % m for k in range(min(n, m), 0, -1)]  # the oldest first
        entry: dict[str, Any] = dict(counts)
        for key, slot in self.leaves.items():
            held = {i: np.asarray(lookup(node[slot.name], path)) for i, path in paths.items()}
            rows = [...] if slot.shape == "like" else order
            vectors = [tensor(key, self._join({i: x[r] for i, x in held.items()})) for r in rows]
            entry[key] = vectors[0] if slot.shape == "like" else vectors
        entry[_FOLLOWS] = [tensor(_FOLLOWS, 1 / shared["sy"][i, i]) for i in order]
        entry |= {key: float(shared[slot.name]) for key, slot in self.numbers.items()}
        return {
            members[0].id: {
                **entry,
                "H_diag": tensor("H_diag", shared["h_diag"]),
                _ROOM: [None] * m,
            }
        }
