"""Trains with small states and small parameters, and compares the losses with float32's.

    python -m tests.benchmarks.quality.small_state --task text --json out/quality_text.json
    python -m tests.benchmarks.quality.small_state --task digits --picture out/quality_digits.png

`text` is a character-level transformer on two million characters of Python's own library, with
AdamW; `digits` a small network on scikit-learn's digits, with five optimizers. Every variant
trains with the same seeds: the same first parameters and batches. "Within its spread" says
whether the mean loss of a variant lies between the least and the greatest of float32's seeds.
Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from tests.benchmarks.quality.digits import digits
from tests.benchmarks.quality.picture import draw
from tests.benchmarks.quality.report import BASE, each_seed, table
from tests.benchmarks.quality.tasks import Task
from tests.benchmarks.quality.text import text
from tests.benchmarks.quality.training import OPTIMIZERS, VARIANTS, run
from tests.benchmarks.reports import arguments, environment, note, say

POINTS = 30
ORDER = {name: i for i, name in enumerate(VARIANTS)}
TASKS: dict[str, Callable[..., Task]] = {"digits": digits, "text": text}


def listed(known: Any) -> Callable[[str], list[str]]:
    """The type of an argument: known names, with semicolons between them."""

    def parsed(given: str) -> list[str]:
        found = [name.strip() for name in given.split(";")]
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(
                f"no such name: {'; '.join(unknown)}; there are {'; '.join(known)}"
            )
        return found

    return parsed


def write(path: Path, task: Task, rows: list[Any]) -> None:
    """All rows so far, in order: a run that is cut short leaves what it has found."""
    rows.sort(key=lambda r: (list(task.rates).index(r["optimizer"]), ORDER[r["variant"]]))
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"environment": environment(), "data": task.data, "unit": task.unit, "rows": rows}
    path.write_text(f"{json.dumps(found, indent=1)}\n")


def kept(path: Path | None, task: Task, seeds: Sequence[int]) -> list[Any]:
    """The rows of an earlier run of the same task, of as many steps, seeds and parameters."""
    if path is None or not path.exists():
        return []
    found = json.loads(path.read_text())
    params = jax.eval_shape(task.init, jax.random.key(0))
    own = {
        "steps": task.steps,
        "seeds": list(seeds),
        "parameters": sum(p.size for p in jax.tree.leaves(params)),
    }
    same = found["data"] == dict(task.data) and found["environment"] == environment()
    if not same or any({k: r[k] for k in own} != own for r in found["rows"]):
        raise SystemExit(f"{path} holds another run: choose another --json, or do not --resume")
    rows: list[Any] = found["rows"]
    return rows


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("quality.small_state", __doc__)
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--seeds", type=int, default=5, help="how many: 0, 1, ...")
    parser.add_argument("--steps", type=int, help=f"of training, a multiple of {POINTS}")
    parser.add_argument("--width", type=int, help="of the network")
    parser.add_argument("--optimizers", type=listed(OPTIMIZERS), help="names with ';' between")
    parser.add_argument(
        "--variants",
        type=listed(VARIANTS),
        default=list(VARIANTS),
        help=f"names with ';' between; {BASE} always runs",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--resume", action="store_true", help="go on from that file: its rows are not run again"
    )
    parser.add_argument("--picture", type=Path, help="draw the losses to this PNG")
    chosen = parser.parse_args(given)
    sizes = {k: v for k, v in vars(chosen).items() if k in ("steps", "width") and v is not None}
    task = TASKS[chosen.task](**sizes)
    if chosen.seeds < 1 or task.steps < 1 or task.steps % POINTS:
        parser.error(f"--seeds must be at least 1, --steps a multiple of {POINTS}")
    optimizers = [o for o in chosen.optimizers or task.rates if o in task.rates]
    if not optimizers:
        parser.error(f"--optimizers: {task.name} is trained with {'; '.join(task.rates)}")
    say(f"{task.name}: " + ", ".join(f"{k} {v}" for k, v in task.data.items()))

    rows = kept(chosen.json, task, range(chosen.seeds)) if chosen.resume else []
    if chosen.json:
        write(chosen.json, task, rows)
    done = {(r["optimizer"], r["variant"]) for r in rows}
    for optimizer in optimizers:
        for name in dict.fromkeys([BASE, *chosen.variants]):
            if (optimizer, name) in done:
                continue
            begun = time.perf_counter()
            rows.append(run(task, optimizer, name, range(chosen.seeds), POINTS))
            if chosen.json:
                write(chosen.json, task, rows)
            note(f"{optimizer}, {name}: {time.perf_counter() - begun:.1f} s")
        of = [r for r in rows if r["optimizer"] == optimizer]
        say(f"\n{optimizer}, {task.steps} steps, {chosen.seeds} seeds, {task.unit}\n\n{table(of)}")
        say(f"\nHeld-out loss of each seed\n\n{each_seed(of, 'held_out')}")
        say(f"\nTraining loss of each seed\n\n{each_seed(of, 'train')}")
    if chosen.picture:
        draw(rows, task.unit, chosen.picture)


if __name__ == "__main__":
    main()
