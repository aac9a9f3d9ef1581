"""Wide copies of narrow parameters, which collect the steps that rounding would lose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jopt.base import ConfigError, StateError, TreeError, configured
from jopt.core import Transform
from jopt.core.apply import added
from jopt.core.checks import EXTEND, check_slot, is_sparse
from jopt.core.nested import has, lookup, nest
from jopt.core.sparse_rows import coalesced, put, taken
from jopt.core.transform import Add, Flow, Leaves, Node
from jopt.core.tree import Layout
from jopt.core.wrap import WrapperPart
from jopt.numerics import is_narrow, nearest, number_dtype


class MasterWeightsPart(WrapperPart):
    """The wrapped parts on wide copies of the narrow parameters, its masters."""

    def __init__(self, name: str, tx: Any, dtype: str) -> None:
        super().__init__(name, tx)
        self.dtype = dtype

    @property
    def choices(self) -> Mapping[str, Any]:
        """The dtype of the masters."""
        return {"dtype": self.dtype}

    def own_init(self, layout: Layout, params: Leaves) -> Node:
        """A master for every narrow parameter that the wrapped parts may move."""
        held = self._held(layout, params)
        masters = [_widened(params[i], self.dtype) for i in held]
        return {"master": nest([layout.paths[i] for i in held], masters)}

    def init(self, layout: Layout, params: Leaves) -> Node:
        """The masters, and the state that the wrapped parts have for them."""
        own = self.own_init(layout, params)
        wide = self._wide(layout, params, own)
        return {**own, "inner": {k: part.init(layout, wide) for k, part in self.inner.items()}}

    def extend(self, layout: Layout, params: Leaves, node: Node) -> Node:
        """New leaves get masters and state of their own; the others' go on."""
        own = self.own_extended(layout, params, node)
        wide = self._wide(layout, params, own)
        inner = {k: p.extend(layout, wide, node["inner"][k]) for k, p in self.inner.items()}
        return {**own, "inner": inner}

    def update(self, flow: Flow, node: Node) -> tuple[Flow, Node]:
        """Step the masters; the updates lead each parameter to its master, rounded."""
        wide, held = self._followed(flow, node)
        after, inner = self.inner_update(replace(flow, params=wide), node["inner"])
        updates, params = list(after.updates), flow.params or []
        for i in held:
            master = added(flow.layout.names[i], wide[i], updates[i])
            wide[i], updates[i] = _led(master, updates[i], params[i])
        return replace(flow, updates=updates, stepped=True, took=after.took), self._node(
            flow, held, wide, inner
        )

    def step(self, flow: Flow, node: Node, add: Add) -> tuple[Leaves, Node]:
        """As `update`; the parameters are the masters rounded, with nothing added."""
        wide, held = self._followed(flow, node)
        # `add` may round by chance, which is for the narrow; frozen ones have nothing to round.
        wide, inner = self.inner_step(replace(flow, params=wide), node["inner"], added)
        leaves, params = list(wide), flow.params or []
        for i in held:
            g, p = flow.updates[i], params[i]
            wide[i], u = _led(wide[i], g, p)
            sparse = is_sparse(g)
            leaves[i] = added(flow.layout.names[i], p, u) if sparse else wide[i].astype(p.dtype)
        return leaves, self._node(flow, held, wide, inner)

    def _held(self, layout: Layout, params: Leaves) -> list[int]:
        still = layout.still
        return [i for i, p in enumerate(params) if i not in still and is_narrow(p.dtype)]

    def _wide(self, layout: Layout, params: Leaves, node: Node) -> Leaves:
        """The parameters, each that has a master replaced by it."""
        wide = list(params)
        held = self._held(layout, params)
        check_slot(self.name, "master", node["master"], [layout.paths[i] for i in held])
        for i in held:
            path, name = layout.paths[i], layout.names[i]
            if not has(node["master"], path):
                problem = "the state has no master for a parameter"
                raise StateError(self.name, problem, path=name, fix=EXTEND)
            wide[i] = lookup(node["master"], path)
            if wide[i].shape != params[i].shape:
                raise StateError(
                    self.name,
                    "a master has another shape than its parameter",
                    path=name,
                    expected=tuple(params[i].shape),
                    found=tuple(wide[i].shape),
                )
        return wide

    def _followed(self, flow: Flow, node: Node) -> tuple[Leaves, list[int]]:
        """The parameters with masters for the narrow ones, and which these are.

        A parameter that is not what the last step made of its master was changed from outside,
        and is its own master from here on.
        """
        if flow.params is None:
            fix = "Call tx.update(grads, state, params)."
            raise TreeError(self.name, "update needs the parameters", fix=fix)
        wide = self._wide(flow.layout, flow.params, node)
        held = self._held(flow.layout, flow.params)
        for i in held:
            g, p, master = flow.updates[i], flow.params[i], wide[i]
            if is_sparse(g):  # other rows are left alone
                ids, _ = coalesced(g)
                rows = _if_changed(taken(master, ids), taken(p, ids))
                wide[i] = put(master, ids, rows)
            else:
                wide[i] = _if_changed(master, p)
        return wide, held

    def _node(self, flow: Flow, held: list[int], wide: Leaves, inner: Node) -> Node:
        masters = nest([flow.layout.paths[i] for i in held], [wide[i] for i in held])
        return {"master": masters, "inner": inner}


def _widened(p: Any, dtype: str) -> Array:
    return p.astype(dtype) if isinstance(p, Array) else jnp.zeros(p.shape, dtype)


def _if_changed(master: Array, p: Array) -> Array:
    wide = p.astype(master.dtype)
    return jnp.where(nearest(master, p.dtype) == wide, master, wide)


def _led(master: Array, step: Any, p: Array) -> tuple[Array, Any]:
    """The master after a step, and the update that leads its parameter to it, rounded."""
    if step is None:
        return master, None
    if is_sparse(step):
        ids, _ = coalesced(step)
        rows, u = _update(taken(master, ids), taken(p, ids))
        master = put(master, ids, rows)
        return master, type(step)((u, ids[:, None]), shape=step.shape)
    return _update(master, p)


def _update(master: Array, p: Array) -> tuple[Array, Array]:
    """The update u with which p + u rounds as the master does, and the master after it.

    Float32 holds no u that leads from p to a number whose last digit is too small beside p, nor
    one from end to end of bfloat16's range, and no sum leads back from infinity. The master is
    then the sum: in the first case off by 2⁻²⁴·|p| at most, as after any float32 addition to p.
    """
    target, wide = nearest(master, p.dtype), p.astype(master.dtype)
    u = jnp.where(target == wide, 0, target - wide)  # ∞ − ∞ is no step
    after = wide + u
    return jnp.where(nearest(after, p.dtype) == target, master, after), u


@configured("jopt.")
def master_weights(tx: Any, *, dtype: DTypeLike = "float32") -> Transform:
    """Step float32 copies of bfloat16 and float16 parameters, and round those.

    With m the master of a parameter p, and u the update that `tx` gives for m:

        m ← m + u
        p ← m, rounded to the dtype of p

    A step too small for p is not lost: it stays in m, and many of them move p. The model
    computes in the narrow dtype, the optimizer in the wide one, as in mixed-precision training
    with the roles of copy and original exchanged.

    A parameter that is not what the last step made of it (set by hand, clipped, pruned) is
    taken as it is, and its master starts from there.

    **Arguments:**

    - `tx`: any transform whose updates are steps. It sees the masters as the parameters, so
      put what reads those inside: `jopt.ema` then averages masters. Put `jopt.accumulate`
      outside, so that masters rest between its steps.
    - `dtype`: of the masters, `"float32"` or, where jax allows it, `"float64"`.

    **State:** `{"master_weights": {"master": ..., "inner": {...}}}`. Only parameters narrower
    than float32 have a master, and only those that no group freezes.

    The updates are such that `apply_updates`, with its own rounding to the nearest, gives the
    rounded master bit for bit; `jopt.step` sets the parameters without a difference. A step that
    ends within 2⁻¹⁵ of a parameter's size from zero (float16: 2⁻¹²) has no such update now and
    then: the master is then what the parameter has become, off by 2⁻²⁴ of that size at most.

    **Raises:** `ConfigError` for another dtype; `StateError` if a parameter's master is missing.

    Source: Micikevicius et al., 2018, "Mixed precision training", section 3.1.

    >>> import jax.numpy as jnp, jopt
    >>> params = {"w": jnp.ones((), "bfloat16")}
    >>> tx = jopt.master_weights(jopt.sgd(0.001))
    >>> state = tx.init(params)
    >>> for _ in range(100):
    ...     params, state = jopt.step(tx, {"w": jnp.ones((), "bfloat16")}, state, params)
    >>> params["w"], round(float(state["master_weights"]["master"]["w"]), 4)
    (Array(0.898438, dtype=bfloat16), 0.9)
    """
    allowed = sorted({"float32", number_dtype().name})
    name = getattr(dtype, "__name__", str(dtype))
    if name not in allowed:
        raise ConfigError(
            "master_weights",
            "masters cannot have this dtype",
            expected=" or ".join(map(repr, allowed)),
            found=repr(name),
        )
    return Transform({"master_weights": MasterWeightsPart("master_weights", tx, name)})
