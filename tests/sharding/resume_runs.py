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
from tests.catalog import BY_NAME
from tests.laws.harness import extras, given
from tests.sharding.meshes import (
    AUTO,
    SPECS,
    equivalent,
    host_grads,
    host_params,
    identical,
    is_spec,
)

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

    def __init__(
        self,
        tx: jopt.Transform,
        layout: Layout,
        entry: Any = None,
        wider: int = 1,
        nudged: bool = False,
    ) -> None:
        self.tx, self.entry, self.traced = tx, entry, 0
        self.wider, self.nudged = wider, nudged
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
        """The leaves of the ranks that the entry takes, arrays of rows so many times as long."""
        ranks = {"w": 2, "b": 1, "deep": 3}
        kept = ranks if self.entry is None else self.entry.ndims
        tree = {k: v for k, v in tree.items() if self.entry is None or ranks[k] in kept}
        return jax.tree.map(self._widened, tree)

    def _widened(self, x: Any) -> Any:
        return np.concatenate([x] * self.wider, -1) if isinstance(x, np.ndarray) else x

    def begin(self) -> Any:
        """Parameters and state before the first step, both born where they live."""
        params = jax.tree.map(jax.device_put, self.taken(host_params()), self.where)
        return {"params": params, "state": jopt.sharding.init(self.tx, params, self.state)}

    def go(self, tree: Any, first: int, last: int) -> Any:
        """The tree after these steps; what went in is gone."""
        params, state = tree["params"], tree["state"]
        for t in range(first, last):
            grads = self.taken(host_grads(t))
            if self.nudged and t >= HALF:
                grads = jax.tree.map(with_other_last_bits, grads)
            grads = jax.tree.map(jax.device_put, grads, self.where)
            params, state = self._step(params, state, grads)
        return {"params": params, "state": state}

    def whole(self) -> Any:
        """Where the undisturbed run ends."""
        return jopt.state_dict(self.go(self.begin(), 0, WHOLE))


def with_other_last_bits(x: Any) -> Any:
    """The array, each entry of which may be the next number up or down."""
    ways = np.random.default_rng(x.size).choice([-np.inf, np.nan, np.inf], x.shape)
    ways = np.where(np.isnan(ways), x, ways)
    return np.nextafter(x, ways.astype(x.dtype))


EIGHT, FOUR = Layout(2, 4, "both"), Layout(2, 2, "both")


def moved(
    tx: jopt.Transform, source: Layout, target: Layout, entry: Any = None, wider: int = 1
) -> Any:
    """What was saved, what was loaded, where that ends, where the undisturbed run ends."""
    before, after = (Run(tx, where, entry, wider) for where in (source, target))
    half = before.go(before.begin(), 0, HALF)
    data, saved = jopt.to_bytes(half, tx=tx), jopt.state_dict(half)
    whole = jopt.state_dict(before.go(half, HALF, WHOLE))
    loaded = jopt.from_bytes(after.like, data, tx=tx)
    assert equivalent(loaded, {"params": after.where, "state": after.state})
    assert identical(loaded, saved)
    resumed = after.go(loaded, HALF, WHOLE)
    assert equivalent(resumed, {"params": after.where, "state": after.state})
    assert after.traced == 1
    after.go(after.begin(), 0, 1)
    assert after.traced == 1, "a loaded state is another program's than one born there"
    assert not identical(whole["params"], saved["params"])
    return resumed, whole


def halved(name: str) -> None:
    """Fail unless an optimizer goes on to the bit on half of the devices."""
    entry = BY_NAME[name]
    resumed, whole = moved(entry.make(), EIGHT, FOUR, entry)
    assert identical(resumed, whole), name


def main(saved: str, result: str) -> None:
    """Go on with the saved run on two by half of all devices, and save where it ends."""
    run = Run(ADAMW, Layout(2, jax.device_count() // 2, "both"))
    tree = run.go(jopt.load(saved, run.like, tx=ADAMW), HALF, WHOLE)
    jopt.save(result, {**tree, "devices": jax.device_count(), "step": np.int32(WHOLE)}, tx=ADAMW)


if __name__ == "__main__":
    main(*sys.argv[1:])
