"""Prints what files of many small leaves cost beside flax and orbax, in one process and in turn.

Run from the repository root: `python -m tests.benchmarks.many_leaves [--count 10000]`. The ratios
are medians of those of each round. flax gives NumPy arrays whatever it is given as a target:
`flax, on device` puts them onto the device as well, which `jopt.load` does with a `like` of
jax arrays. Nothing but `jopt` sums its bytes, or forces them to the disk.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

import jopt

Calls = dict[str, Callable[[], Any]]

BOUNDS = {
    ("jopt.save", "flax save"): 2.0,
    ("jopt.load", "flax load"): 4.0,
    ("jopt.load", "flax load, on device"): 4.0,
    ("jopt.load without like", "flax load without target"): 4.0,
}
"""How much longer a call may take than another."""


def trees(count: int) -> dict[str, Any]:
    """Leaves of 64 numbers, single numbers, and an optimizer's state beside its parameters."""
    layers = {f"layer{i:04}": {"kernel": (16, 16), "bias": (16,)} for i in range(count // 20)}
    params = jax.tree.map(
        lambda shape: np.full(shape, 0.5, np.float32), layers, is_leaf=lambda x: type(x) is tuple
    )
    state = jax.eval_shape(jopt.adamw(1e-3).init, params)
    return {
        "(64,)": {f"leaf{i:06}": np.full(64, i, np.float32) for i in range(count)},
        "scalars": {f"leaf{i:06}": np.array(i, np.float32) for i in range(count)},
        "adamw": {"params": params, "state": jax.tree.map(_ones, state)},
    }


def _ones(x: Any) -> np.ndarray[Any, Any]:
    return np.ones(x.shape, x.dtype)


def calls(tree: Any, folder: Path, *, orbax: bool) -> Calls:
    """What is measured, by name."""
    ours, theirs = folder / "run.jopt", folder / "run.msgpack"

    def save() -> None:
        theirs.write_bytes(flax.serialization.to_bytes(tree))

    def load() -> Any:
        return flax.serialization.from_bytes(tree, theirs.read_bytes())

    found: Calls = {
        "flax save": save,
        "jopt.save": lambda: jopt.save(ours, tree, progress=False),
        "flax load": load,
        "jopt.load": lambda: jopt.load(ours, tree, progress=False),
        "flax load without target": lambda: flax.serialization.msgpack_restore(theirs.read_bytes()),
        "jopt.load without like": lambda: jopt.load(ours, progress=False),
    }
    if isinstance(jax.tree.leaves(tree)[0], jax.Array):
        found["flax load, on device"] = lambda: jax.device_put(load())
    if orbax:
        found |= _orbax(tree, folder)
    return found


def _orbax(tree: Any, folder: Path) -> Calls:
    import orbax.checkpoint as ocp

    names = iter(range(10**6))
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    last: list[Path] = []

    def save() -> None:
        last.append(folder / f"orbax{next(names)}")
        checkpointer.save(last[-1], args=ocp.args.PyTreeSave(tree))

    return {"orbax save": save, "orbax load": lambda: checkpointer.restore(last[-1])}


def measure(found: Calls, rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, one after the other, round by round."""
    times: dict[str, list[float]] = {name: [] for name in found}
    for i in range(rounds + 1):
        for name, call in found.items():
            gc.collect()
            began = time.perf_counter()
            jax.block_until_ready(call())
            if i:  # the first of each makes folders and imports
                times[name].append(time.perf_counter() - began)
    return times


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--orbax", action="store_true", help="orbax too, for information")
    chosen = parser.parse_args()
    for name, tree in trees(chosen.count).items():
        for kind, make in (("numpy", np.asarray), ("jax", jnp.asarray)):
            mine = jax.block_until_ready(jax.tree.map(make, tree))
            with tempfile.TemporaryDirectory() as folder:
                found = calls(mine, Path(folder), orbax=chosen.orbax)
                times = measure(found, chosen.rounds)
            say(f"{name}, {kind}: {len(jax.tree.leaves(mine))} leaves")
            for call, seconds in times.items():
                say(f"  {call:28} {statistics.median(seconds) * 1000:8.0f} ms")
            for (ours, theirs), bound in BOUNDS.items():
                if theirs in times:
                    pairs = zip(times[ours], times[theirs], strict=True)
                    ratio = statistics.median(a / b for a, b in pairs)
                    say(f"  {ours} / {theirs}: {ratio:.2f} (at most {bound})")


if __name__ == "__main__":
    main()
