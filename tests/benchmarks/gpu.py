"""How long steps take on the GPU that is here, and how near they come to its memory's speed.

    python -m tests.benchmarks.gpu --json out/gpu.json

`device` is the time of a step among many in one compiled loop, so that no call stands between
them. The memory traffic of that loop, counted as `traffic` says, over this time is the bandwidth
reached; beside it stands what part that is of a copy's, measured in the same way. `called` is
the time by one call a step, as training loops have it: where it is longer, the GPU waits for the
calls. torch's fused AdamW, called, takes part if torch sees the GPU too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tests.benchmarks.budgets import Row
from tests.benchmarks.cases import CASES, EVERY, Step
from tests.benchmarks.contenders import Contender, fused, in_turn, jitted
from tests.benchmarks.reports import arguments, markdown, names, note, number, say, write
from tests.benchmarks.traffic import count
from tests.benchmarks.trees import TREES, Tree, size, values

BY_TORCH = ("adamw", "clip+adamw", "clip+adamw B")
"""What torch has fused kernels for."""

COLUMNS = {
    "device": "device ms",
    "called": "called ms",
    "bytes": "bytes/number",
    "bandwidth": "GB/s",
    "of_copy": "of a copy's",
}


class Looped(NamedTuple):
    """Steps in a loop, and the bytes that each of them moves."""

    take: Contender
    bytes: float

    def seconds(self, rounds: int, steps: int) -> float:
        """Of one step. By how much longer twice the steps take, so that the call cancels out."""
        both = {"once": self.take, "twice": lambda n: self.take(2 * n)}
        found = in_turn(both, rounds, steps)
        return found["twice"] - found["once"]


def looped(
    step: Callable[[Any], Any],
    start: Any,
    turns: Sequence[float] = (),
    rest: float | None = None,
) -> Looped:
    """`step` in a loop whose turns are known only when it runs: XLA then unrolls nothing."""

    def body(n: Any, held: Any) -> Any:
        return jax.lax.fori_loop(0, n, lambda _, held: step(held), held)

    program = jax.jit(body, donate_argnums=1).lower(jnp.int32(1), start).compile()
    held = [start]

    def take(steps: int) -> None:
        held[0] = jax.block_until_ready(program(jnp.int32(steps), held[0]))

    none, one = (count(program.as_text(), (n, *turns), rest).bytes for n in (0, 1))
    return Looped(take, one - none)


def copied(numbers: int) -> Looped:
    """The plainest kernel: it reads an array and writes it."""
    return looped(lambda x: x + 1, jnp.zeros(numbers, jnp.float32))


def stepped(step: Step, tree: Tree) -> Looped:
    """The steps of a case, with gradients that stay the same."""

    def once(held: Any) -> Any:
        params, state, grads, i = held
        # What depends on the gradients alone, as their norm does, must not leave the loop.
        grads, i = jax.lax.optimization_barrier((grads, i))
        return *step.run(params, state, grads), grads, i + 1

    params = values(tree)
    start = (params, step.init(params), values(tree, seed=1), jnp.int32(0))
    return looped(once, start, step.turns, step.rest)


def measure(case: str, tree: Tree, copy: float, rounds: int, steps: int) -> dict[str, Row]:
    """The rows of a case, by library; `copy` is the bandwidth to compare with."""
    made = {by: make() for by, make in CASES[case].steps.items()}
    rows: dict[str, dict[str, float]] = {by: {} for by in made}
    for by, step in made.items():
        loop = stepped(step, tree)
        seconds = loop.seconds(rounds, steps)
        reached = loop.bytes / seconds
        rows[by]["device"] = 1000 * seconds
        rows[by]["bytes"] = loop.bytes / size(tree)
        rows[by] |= {"bandwidth": reached / 1e9, "of_copy": reached / copy}
        del loop  # its buffers
    called = {by: jitted(step, tree) for by, step in made.items()}
    if case in BY_TORCH and torch_sees_a_gpu():
        called["torch"] = fused(tree, clip="clip" in case, device="cuda")
    for by, seconds in in_turn(called, rounds, steps).items():
        rows.setdefault(by, {})["called"] = 1000 * seconds
    return rows


def torch_sees_a_gpu() -> bool:
    """Whether torch is installed and can use a GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def table(rows: Sequence[Row]) -> str:
    """The figures, as Markdown."""
    lines = [
        (r["case"], r["by"], *(number(round(r[c], 3)) if c in r else "" for c in COLUMNS))
        for r in rows
    ]
    return markdown((jax.devices()[0].device_kind, "by", *COLUMNS.values()), lines)


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("gpu", __doc__)
    parser.add_argument("--cases", type=names(CASES), default=list(CASES))
    parser.add_argument("--tree", choices=TREES, help="instead of each case's own")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8 * EVERY, help="of each round")
    parser.add_argument("--copy", type=int, default=2**28, help="numbers to copy, of 4 bytes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args(given)
    if chosen.steps % EVERY:
        parser.error(f"--steps must be a multiple of {EVERY}: whole rounds of accumulation")
    plain = copied(chosen.copy)
    copy = plain.bytes / plain.seconds(chosen.rounds, chosen.steps)
    say(f"A copy moves {copy / 1e9:.0f} GB/s.\n")
    rows: list[Row] = []
    for case in chosen.cases:
        note(f"timing {case}")
        found = measure(case, CASES[case].shapes(chosen.tree), copy, chosen.rounds, chosen.steps)
        where = {"target": "gpu", "case": case, "tree": chosen.tree or CASES[case].tree}
        rows += [where | {"by": by, **figures} for by, figures in found.items()]
    say(table(rows))
    if chosen.json:
        write(chosen.json, rows)


if __name__ == "__main__":
    main()
