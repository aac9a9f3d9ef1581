"""A process of several: `python -m tests.sharding.several PHASE COUNT INDEX PORT FOLDER`.

Four devices in all, however many processes there are. `first` trains to the middle, saves, and is
killed; `second` restores and trains to the end, and the first process writes what it has.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
import jopt.interop.orbax as orbax
import jopt.interop.safetensors as safetensors

HALF, WHOLE = 3, 6
SPECS = {"w": P("x"), "v": P(None, "x"), "b": P()}
SHAPES = {"w": (8, 16), "v": (16, 8), "b": (6,)}
ADAMW = jopt.chain(jopt.clip_by_global_norm(0.5), jopt.adamw(0.1))
ALL = {
    "adamw": ADAMW,
    "muon": jopt.recipes.muon_adamw(),
    "accumulate": jopt.accumulate(jopt.adamw(0.1), every=2),
    "skip": jopt.skip_nonfinite(jopt.adamw(0.1)),
    "soap": jopt.soap(0.1, one_sided=True, update_every=2),  # with stacks on the owners
}


def gradients(step, name):
    rng = np.random.default_rng(step)
    found = {k: rng.normal(size=s).astype("float32") for k, s in SHAPES.items()}
    if name == "skip" and step == 1:
        found["w"][5, 3] = np.nan
    return found


def placed(mesh, tree):
    def one(k, x):
        where = NamedSharding(mesh, SPECS[k])
        return jax.make_array_from_callback(x.shape, where, lambda i: x[i])

    return {k: one(k, x) for k, x in tree.items()}


def told_of_the_other_engine(folder, state):
    try:
        jopt.save(folder / "split.jopt", state)
    except jopt.CheckpointError as error:
        return "jopt.interop.orbax.save" in str(error) and "w" in str(error)
    return jax.process_count() == 1


def run(phase, folder, chosen):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    params = placed(mesh, gradients(100, "adamw"))
    for name, tx in chosen.items():
        tx = jopt.sharding.owned(tx, params) if name == "soap" else tx
        p, state = params, jopt.sharding.init(tx, params)
        step = jax.jit(lambda g, s, p, tx=tx: jopt.step(tx, g, s, p))
        if phase == "second":
            found = orbax.restore(folder / name, {"params": p, "state": state}, tx=tx)
            p, state = found["params"], found["state"]
        start, end = {"first": (0, HALF), "second": (HALF, WHOLE), "whole": (0, WHOLE)}[phase]
        for i in range(start, end):
            p, state = step(placed(mesh, gradients(i, name)), state, p)
        if phase == "first":
            orbax.save(folder / name, {"params": p, "state": state}, tx=tx)
            assert told_of_the_other_engine(folder, state)
            for engine in (jopt, safetensors):  # of what all have, the first writes the file
                engine.save(folder / "whole", {"b": p["b"]})
                multihost_utils.sync_global_devices("saved")
                found = engine.load(folder / "whole")["b"]
                np.testing.assert_array_equal(found, p["b"].addressable_data(0))
                multihost_utils.sync_global_devices("read")
        else:
            whole = multihost_utils.process_allgather(p, tiled=True)
            if jax.process_index() == 0:
                np.savez(folder / f"{name}-{phase}-{jax.process_count()}.npz", **whole)
    multihost_utils.sync_global_devices("done")


if __name__ == "__main__":
    phase, count, index, port, where, *names = sys.argv[1:]
    if int(count) > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(index))
    run(phase, Path(where), {k: ALL[k] for k in names or ALL})
    sys.stdout.flush()
    if phase == "first":
        os.kill(os.getpid(), signal.SIGKILL)
