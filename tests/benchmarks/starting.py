"""What a state in 8 bits costs on this CPU beside one in float32: to trace, to compile, a step.

    python -m tests.benchmarks.starting

A transformer of 232 thousand numbers, whose matrices are small enough for the compiler to be what
one waits for. Both take turns in one process and are measured by its CPU time, so that what else
the machine does is in no figure; the medians are of single programs and of single steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tests.benchmarks import targets
from tests.benchmarks.cases import adamw, by_step
from tests.benchmarks.reports import markdown, number, say
from tests.benchmarks.trees import Tree, transformer, values

BOUNDS = {"compile": 2.5, "step": 2.0}
"""How many times as long as float32's int8's may take."""

COLUMNS = ("trace", "compile", "step")


def measured(tree: Tree, repeats: int, steps: int) -> dict[str, dict[str, float]]:
    """The medians of the seconds, by dtype of the state."""
    sides = {"float32": by_step(adamw()), "int8": by_step(adamw(state_dtype="int8"))}
    found: dict[str, dict[str, list[float]]] = {d: {c: [] for c in COLUMNS} for d in sides}
    held: dict[str, Any] = {}
    for _ in range(repeats):
        for dtype, step in sides.items():
            of = tree, jax.eval_shape(step.init, tree), tree
            built = targets.build(step.run, of, "cpu", clock=time.process_time)
            found[dtype]["trace"].append(built.traced)
            found[dtype]["compile"].append(built.compiled)
            held[dtype] = built.program, jax.tree.map(jnp.copy, tree), step.init(tree)
    for _ in range(steps):
        for dtype, (program, params, state) in held.items():
            start = time.process_time()
            params, state = jax.block_until_ready(program(params, state, tree))
            found[dtype]["step"].append(time.process_time() - start)
            held[dtype] = program, params, state
    return {d: {c: statistics.median(x) for c, x in of.items()} for d, of in found.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    """The medians and their ratios, as Markdown."""
    ratios = {c: found["int8"][c] / found["float32"][c] for c in COLUMNS}
    limits = {c: number(BOUNDS[c]) if c in BOUNDS else "" for c in COLUMNS}
    rows = [
        (c, *(number(of[c]) for of in found.values()), number(ratios[c]), limits[c])
        for c in COLUMNS
    ]
    return markdown(("seconds of CPU", *found, "ratio", "at most"), rows)


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = argparse.ArgumentParser("starting", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="programs of each")
    parser.add_argument("--steps", type=int, default=60, help="steps of each")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    chosen = parser.parse_args(given)
    jax.config.update("jax_enable_compilation_cache", False)
    tree = values(transformer(chosen.layers, chosen.width, 8 * chosen.width))
    say(table(measured(tree, chosen.repeats, chosen.steps)))


if __name__ == "__main__":
    main()
