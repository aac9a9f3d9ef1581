"""Runs that stop on some devices and go on on others, within `test_resume.py` or a process apart.

`python -m tests.sharding.resume_runs SAVED RESULT` is such a process: it goes on with a run of
`jopt.adamw` on all the devices it has, however many made the checkpoint.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

import jopt
from tests.laws.harness import extras, given
from tests.sharding.meshes import AUTO, SPECS, host_grads, host_params, is_spec

HALF, WHOLE = 3, 6
ADAMW = jopt.adamw(
    jopt.schedules.cosine(0.1, 100), amsgrad=True, groups={"b": jopt.group("^b$", b1=0.5)}
)


@dataclass(frozen=True)
class Layout:
    """Where a run lives: a mesh of `data`·`model` devices, a row of `SPECS`, and maybe ZeRO-1."""

    data: int
    model: int
    specs: str
    zero1: bool = False

    @property
    def shardings(self) -> Any:
        """The sharding of each parameter."""
        devices = jax.devices()[: self.data * self.model]
        mesh = jax.make_mesh(
            (self.data, self.model), ("data", "model"), axis_types=(AUTO, AUTO), devices=devices
        )
        return jax.tree.map(lambda s: NamedSharding(mesh, s), SPECS[self.specs], is_leaf=is_spec)


class Run:
    """A transform at work in one layout, on the parameters of the ranks that its entry takes."""

    def __init__(self, tx: jopt.Transform, layout: Layout, entry: Any = None) -> None:
        self.tx, self.entry, self.traced = tx, entry, 0
        self.where = self.taken(layout.shardings)
        params = jax.tree.map(
            lambda p, s: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=s),
            self.taken(host_params()),
            self.where,
        )
        place = jopt.sharding.state_sharding
        if layout.zero1:
            self.state = jopt.sharding.zero1(tx, params, "data")
        else:
            self.state = place(tx, params)
        self.like = {
            "params": params,
            "state": jax.tree.map(
                lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
                jax.eval_shape(tx.init, params),
                self.state,
            ),
        }

        def step(params: Any, state: Any, grads: Any) -> Any:
            self.traced += 1
            extra = extras(tx, params, grads)
            grads = grads if entry is None else given(entry, grads)
            updates, state = tx.update(grads, state, params, **extra)
            return jopt.apply_updates(params, updates), state

        self._step = jax.jit(step, donate_argnums=(0, 1), out_shardings=(self.where, self.state))

    def taken(self, tree: Any) -> Any:
        """The leaves of the ranks that the entry takes."""
        ranks = {"w": 2, "b": 1, "deep": 3}
        kept = ranks if self.entry is None else self.entry.ndims
        return {k: v for k, v in tree.items() if self.entry is None or ranks[k] in kept}

    def begin(self) -> Any:
        """Parameters and state before the first step, both born where they live."""
        params = jax.tree.map(jax.device_put, self.taken(host_params()), self.where)
        return {"params": params, "state": jopt.sharding.init(self.tx, params, self.state)}

    def go(self, tree: Any, first: int, last: int) -> Any:
        """The tree after these steps; what went in is gone."""
        params, state = tree["params"], tree["state"]
        for t in range(first, last):
            grads = jax.tree.map(jax.device_put, self.taken(host_grads(t)), self.where)
            params, state = self._step(params, state, grads)
        return {"params": params, "state": state}


def main(saved: str, result: str) -> None:
    """Go on with the saved run on two by half of all devices, and save where it ends."""
    run = Run(ADAMW, Layout(2, jax.device_count() // 2, "both"))
    tree = run.go(jopt.load(saved, run.like, tx=ADAMW), HALF, WHOLE)
    jopt.save(result, {**tree, "devices": jax.device_count(), "step": np.int32(WHOLE)}, tx=ADAMW)


if __name__ == "__main__":
    main(*sys.argv[1:])
