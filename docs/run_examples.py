"""Runs the examples and keeps what they print and draw, for their pages.

`python docs/run_examples.py` runs all, with names after it those alone: `docs/_static/examples/`
then has the text of each, under the command that made it, and `docs/_static/` their pictures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "_static"
PRINTED = PICTURES / "examples"

RUNS = {
    "quickstart": [""],
    "digits": [""],
    "preempted": ["--stop-after 57", ""],
    "sweep": ["--rates 64"],
    "optuna_study": [""],
    "optimizers": [""],
    "vision_transformer": [""],
    "torch_to_jax": [""],
    "embedding": [""],
    "fit_peaks": [""],
}
"""Each example with the words after it, for each time that it is started."""


def run(name: str, folder: Path) -> str:
    """What an example prints, in a folder that gets what it writes."""
    env = {**os.environ, "COLUMNS": "88", "PYTHONPATH": str(ROOT)}
    shown = ""
    for words in RUNS[name]:
        command = [sys.executable, ROOT / "examples" / f"{name}.py", *words.split()]
        done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, check=True)
        said = "\n".join(line.rstrip() for line in done.stdout.decode().splitlines())
        shown += f"$ python examples/{name}.py {words}".rstrip() + f"\n{said}\n"
    return shown


def main(chosen: list[str]) -> None:
    """Run these examples, or all."""
    PRINTED.mkdir(parents=True, exist_ok=True)
    for name in chosen or RUNS:
        with tempfile.TemporaryDirectory() as folder:
            (PRINTED / f"{name}.txt").write_text(run(name, Path(folder)))
            for picture in Path(folder).rglob("*.png"):
                shutil.copy(picture, PICTURES / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
