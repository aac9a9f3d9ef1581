"""How long steps take on this CPU: jopt, optax, and torch's fused kernels, taking turns.

    python -m tests.benchmarks.times --json out/times.json

`adamw` and `clip+adamw` run on a tree of 24 million numbers in 145 leaves, all buffers donated;
torch runs `AdamW(fused=True)`, after `clip_grad_norm_`. `dispatch` is what a call of a jitted
step costs before anything is computed: a program that hands the same parameters and state back.
The libraries take turns within one process, so that what else the machine does hits all of them;
the figures are medians of single steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tests.benchmarks import budgets
from tests.benchmarks.cases import CASES
from tests.benchmarks.contenders import Contender, fused, handed_back, in_turn, jitted
from tests.benchmarks.reports import arguments, markdown, names, number, say, write
from tests.benchmarks.trees import TREES, Tree

TIMED = ("adamw", "clip+adamw", "dispatch")


def contenders(case: str, tree: Tree) -> dict[str, Contender]:
    """Those that take part in a case."""
    if case == "dispatch":
        small = jax.tree.map(lambda x: jax.ShapeDtypeStruct((8,), jnp.float32), tree)
        steps = {by: handed_back(make()) for by, make in CASES["clip+adamw"].steps.items()}
        return {by: jitted(step, small) for by, step in steps.items()}
    found = {by: jitted(make(), tree) for by, make in CASES[case].steps.items()}
    return found | {"torch": fused(tree, clip=case == "clip+adamw")}


def table(rows: Sequence[budgets.Row]) -> str:
    """The medians, in milliseconds."""
    lines = [(r["case"], r["by"], number(1000 * r["seconds"])) for r in rows]
    return markdown(("update", "by", "ms a step"), lines)


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("times", __doc__)
    parser.add_argument("--cases", type=names(TIMED), default=list(TIMED))
    parser.add_argument("--tree", choices=TREES, default="CPU")
    parser.add_argument("--rounds", type=int, default=100, help="how many steps of each")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args(given)
    jax.config.update("jax_platforms", "cpu")
    rows: list[dict[str, Any]] = []
    for case in chosen.cases:
        found = in_turn(contenders(case, TREES[chosen.tree]()), chosen.rounds)
        where = {"target": "cpu", "case": case, "tree": chosen.tree}
        rows += [where | {"by": by, "seconds": s} for by, s in found.items()]
    say(f"{table(rows)}\n\n{budgets.table(budgets.TIMES, rows)}")
    if chosen.json:
        write(chosen.json, rows)


if __name__ == "__main__":
    main()
