"""What a jitted step costs per call, beside optax: AdamW with seven groups, many small leaves.

    python -m tests.benchmarks.per_call

The leaves are so small that the arithmetic is nothing: what is left is the call, some µs for each
array that goes in and comes out. Each side has seven learning rates, one a group. optax has them
as `optax.partition` of seven optimizers, with the rates as constants of the program, and as
`inject_hyperparams`, where they are data, as they are in jopt. State and parameters are donated.
Sides take turns in one process, and the medians are of single calls.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jopt

GROUPS = 7
RATES = [1e-3 * (i + 1) for i in range(GROUPS)]


def params(leaves: int) -> dict[str, Any]:
    """So many arrays of eight numbers, in as many layers as there are groups."""
    return {
        f"layer{i}": {
            f"w{j}": jnp.full(8, 0.1) for j in range(len(range(i, leaves, GROUPS)))
        }
        for i in range(GROUPS)
    }  # fmt: skip


def sides() -> dict[str, Any]:
    """The same optimizer, three times, and what is spared without groups."""
    groups = {
        f"layer{i}": jopt.group(f"^layer{i}/", learning_rate=rate)
        for i, rate in enumerate(RATES)
        if i
    }

    def label(tree: Any) -> Any:
        return {key: jax.tree.map(lambda _, key=key: key, of) for key, of in tree.items()}

    def parted(make: Callable[..., Any]) -> Any:
        each = {f"layer{i}": make(rate, weight_decay=1e-2) for i, rate in enumerate(RATES)}
        return optax.partition(each, label)

    return {
        "jopt": jopt.adamw(RATES[0], groups=groups),
        "optax, data": parted(optax.inject_hyperparams(optax.adamw)),
        "optax, constants": parted(optax.adamw),
        "optax, no groups": optax.adamw(RATES[0], weight_decay=1e-2),
    }


def measure(leaves: int, rounds: int) -> dict[str, tuple[float, int]]:
    """For each side the median of a call in µs, and the arrays of its state."""
    runs: dict[str, list[Any]] = {}
    for name, tx in sides().items():
        p = params(leaves)
        state = jax.jit(tx.init)(p)

        def turn(p: Any, state: Any, grads: Any, tx: Any = tx) -> Any:
            updates, state = tx.update(grads, state, p)
            return optax.apply_updates(p, updates), state

        runs[name] = [jax.jit(turn, donate_argnums=(0, 1)), p, state]
    grads = params(leaves)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            jax.block_until_ready(run[1:])
            start = time.perf_counter()
            run[1:] = run[0](run[1], run[2], grads)
            jax.block_until_ready(run[1:])
            times[name].append(time.perf_counter() - start)
    return {
        name: (statistics.median(took[5:]) * 1e6, len(jax.tree.leaves(runs[name][2])))
        for name, took in times.items()
    }


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=2000)
    given = parser.parse_args()
    found = measure(given.leaves, given.rounds)
    mine = found["jopt"][0]
    say("| | µs a call | arrays of state | jopt / it |")
    say("|---|---|---|---|")
    for name, (took, arrays) in found.items():
        say(f"| {name} | {took:.0f} | {arrays} | {mine / took:.2f} |")


if __name__ == "__main__":
    main()
