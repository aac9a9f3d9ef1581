"""Prints what 128 runs cost at once, one after another, and each compiled anew.

Run from the repository root: `python -m tests.benchmarks.sweeps [hidden ...]`, for networks of
these widths. The runs are those of `examples/sweep.py`: 64 learning rates with two weight
decays. All in one process, the ways taking turns; medians, without compiling where not said.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jopt

REPEATS = 5
COMPILED = 4
SPEC = importlib.util.spec_from_file_location(
    "sweep", Path(__file__).parents[2] / "examples" / "sweep.py"
)
assert SPEC is not None
assert SPEC.loader is not None
sweep = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sweep)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def clock(function: Any) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(function())
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(hidden: int, epochs: int) -> None:
    """One row of the table: seconds for all runs, by each way."""
    grid = np.meshgrid(np.geomspace(1e-5, 1, 64), [0.0, 1.0])
    rates, decays = (axis.ravel().astype(np.float32) for axis in grid)
    data, held_out = sweep.load_data()
    params, order = sweep.start(0, hidden), sweep.batches(0, len(data[0]), 32, epochs)
    tx = jopt.adamw()
    train = sweep.make_train(tx, data, held_out)
    axed = jax.vmap(tx.init, in_axes=None, axis_size=len(rates))(params)
    axed = jopt.set_hyperparams(axed, learning_rate=rates, weight_decay=decays)
    each = [
        jopt.set_hyperparams(tx.init(params), learning_rate=r, weight_decay=d)
        for r, d in zip(rates, decays, strict=True)
    ]

    def step(params: Any, state: Any, rows: Any) -> Any:
        grads = jax.grad(lambda p: sweep.measure(p, data[0][rows], data[1][rows])[0])(params)
        updates, state = tx.update(grads, state, params)
        return jopt.apply_updates(params, updates), state

    one, together = jax.jit(train), jax.jit(jax.vmap(train, in_axes=(None, 0, None)))
    one_step = jax.jit(step, donate_argnums=(0, 1))
    all_step = jax.jit(jax.vmap(step, in_axes=(0, 0, None)), donate_argnums=(0, 1))
    rows = list(order)

    def loop(step: Any, params: Any, state: Any) -> Any:
        params, state = jax.tree.map(lambda x: x.copy(), (params, state))
        for chosen in rows:
            params, state = step(params, state, chosen)
        return params

    stacked = jax.tree.map(lambda x: np.broadcast_to(x, (len(rates), *x.shape)), params)
    stacked = jax.device_put(stacked)
    ways = {
        "loop 1": lambda: [loop(one_step, params, s) for s in each],
        "loop N": lambda: loop(all_step, stacked, axed),
        "scan 1": lambda: [jax.block_until_ready(one(params, s, order)) for s in each],
        "scan N": lambda: together(params, axed, order),
    }
    first = {  # compiling, and one run or all
        "loop 1": clock(lambda: loop(one_step, params, each[0]))[0],
        "loop N": clock(ways["loop N"])[0],
        "scan 1": clock(lambda: one(params, each[0], order))[0],
        "scan N": clock(ways["scan N"])[0],
    }
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(REPEATS):
        for way, function in ways.items():
            times[way].append(clock(function))
    _say(f"hidden {hidden}, {len(order)} steps")
    for way, taken in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        low, high = min(t[0] for t in taken), max(t[0] for t in taken)
        _say(
            f"  {way}: {wall:8.3f} s ({low:.3f} to {high:.3f}), processor {cpu:8.3f} s,"
            f" first call {first[way]:.2f} s"
        )


def compile_anew(hidden: int, epochs: int) -> None:
    """What a run costs where its hyperparameters are constants of the program."""
    data, held_out = sweep.load_data()
    params, order = sweep.start(0, hidden), sweep.batches(0, len(data[0]), 32, epochs)
    rates = np.geomspace(1e-5, 1, COMPILED)
    wall, cpu = clock(
        lambda: sweep.one_by_one_compiled(data, held_out, params, order, rates, 0 * rates)
    )
    _say(f"compiled anew: {wall / COMPILED:.2f} s a run, processor {cpu / COMPILED:.2f} s")


if __name__ == "__main__":
    for width in [int(word) for word in sys.argv[1:]] or [8, 32, 128]:
        measure(width, epochs=2)
    compile_anew(32, epochs=2)
