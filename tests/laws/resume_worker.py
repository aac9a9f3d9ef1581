"""The two processes of `test_resume.py`: `python -m tests.laws.resume_worker PHASE BATCH FOLDER`.

The first runs every case of a batch whole, and saves it on the way. The second, which has seen
nothing of that, loads what was saved and goes on. Each writes its files, and what it counted or
what went wrong as JSON.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import serialization

import jopt
from tests.laws.resume_cases import BATCHES, HALF, WHOLE, Case

Tree = Any
COMPILED = "/jax/core/compile/backend_compile_duration"


class Runner:
    """The steps of a case, compiled with donation, and how often they were traced or compiled."""

    def __init__(self, case: Case) -> None:
        self.case, self.traced, self.compiled = case, 0, 0

        @functools.partial(jax.jit, donate_argnums=(0, 1), static_argnums=3)
        def step(params: Tree, state: Tree, t: jax.Array, first: bool) -> tuple[Tree, Tree]:
            self.traced += 1
            return case.step(params, state, t, first)

        self._step = step

    def run(self, tree: Tree, first: int, last: int) -> Tree:
        """The tree after these steps; what went in is gone."""
        steps = [jnp.int32(t) for t in range(first, last)]
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        params, state = tree["params"], tree["state"]
        for t in steps:
            before = params, state
            early = self.case.absent and first == 0 and t is steps[0]
            params, state = self._step(params, state, t, early)
            # jax drops what a program does not read, such as the last value of a schedule.
            kept = [x for x in jax.tree.leaves(before) if x.ndim and x.size and not x.is_deleted()]
            assert not kept, f"not donated: {[(x.dtype, x.shape) for x in kept]}"
        jax.monitoring.unregister_event_duration_listener(self._listen)
        return {"params": params, "state": state, "step": last}

    def _listen(self, event: str, duration: float, **_: Any) -> None:
        self.compiled += event == COMPILED


def first(case: Case, folder: Path) -> dict[str, Any]:
    """The run without a break, saved half way; then the second half again from the file."""
    runner = Runner(case)
    params = case.params()
    tree = runner.run({"params": params, "state": case.tx.init(params)}, 0, HALF)
    jopt.save(folder / f"{case.name}.half", tree, tx=case.tx)
    if "flax" in case.also:
        (folder / f"{case.name}.flax").write_bytes(serialization.to_bytes(tree))
    if "pickle" in case.also:
        (folder / f"{case.name}.pickle").write_bytes(pickle.dumps(jopt.state_dict(tree)))
    shapes = jax.eval_shape(lambda: {"params": tree["params"], "state": tree["state"]})
    jopt.save(folder / f"{case.name}.whole", runner.run(tree, HALF, WHOLE), tx=case.tx)
    before = runner.traced, runner.compiled
    loaded = jopt.load(folder / f"{case.name}.half", {**shapes, "step": 0}, tx=case.tx)
    jopt.save(folder / f"{case.name}.again", runner.run(loaded, HALF, WHOLE), tx=case.tx)
    more = runner.traced - before[0], runner.compiled - before[1]
    return {"traced": before[0], "traced_more": more[0], "compiled_more": more[1]}


def second(case: Case, folder: Path) -> dict[str, Any]:
    """The second half, from the file of another process, by every way there is."""
    runner, path = Runner(case), folder / f"{case.name}.half"

    def params() -> Tree:
        return {"params": case.params(), "step": 0}

    def shapes() -> Tree:
        return {**params(), "state": jax.eval_shape(case.tx.init, case.params())}

    def arrays() -> Tree:
        return {**params(), "state": case.tx.init(case.params())}

    def flax() -> Tree:
        data = path.with_suffix(".flax").read_bytes()
        return jopt.load_state_dict(shapes(), serialization.msgpack_restore(data))

    ways: dict[str, Callable[[], Tree]] = {
        "resumed": lambda: jopt.load(path, shapes(), tx=case.tx),
        "arrays": lambda: jopt.load(path, like=arrays(), tx=case.tx),
        "bytes": lambda: jopt.from_bytes(shapes(), path.read_bytes(), tx=case.tx),
        "flax": flax,
        "pickle": lambda: jopt.load_state_dict(
            arrays(), pickle.loads(path.with_suffix(".pickle").read_bytes())
        ),
    }
    for name in ("resumed", "arrays", *case.also):
        tree = ways[name]()
        assert tree["step"] == HALF
        jopt.save(folder / f"{case.name}.{name}", runner.run(tree, HALF, WHOLE), tx=case.tx)
    return {"traced": runner.traced, "compiled": runner.compiled}


def main(phase: str, batch: str, folder: str) -> None:
    """Every case of the batch; one that fails does not stop the others."""
    said = {}
    for case in BATCHES[batch]:
        with jax.enable_x64(True) if case.x64 else contextlib.nullcontext():
            try:
                said[case.name] = {"1": first, "2": second}[phase](case, Path(folder))
            except Exception:
                said[case.name] = {"failed": traceback.format_exc()}
    Path(folder, f"report.{phase}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
