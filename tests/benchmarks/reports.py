"""What the benchmarks print and write."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jopt", "jax", "jaxlib", "optax", "torch", "jax-cuda13-plugin", "libtpu")


def say(text: str) -> None:
    """Print a result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print what happens meanwhile."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def number(x: float) -> str:
    """As many digits as matter: `0.337`, `28.02`, `15`, `2525`."""
    if x == int(x) or x >= 1000:
        return f"{x:.0f}"
    return f"{x:.3g}" if x < 1 else f"{x:.2f}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(map(_line, lines))


def as_they_come(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose rows take long, each when it is there."""
    say(markdown(heads, []))
    for row in rows:
        say(_line(row))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    found: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"devices": [d.device_kind for d in jax.devices()]}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The figures and what they depend on, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": environment(), "rows": rows}, indent=1)
    path.write_text(f"{text}\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The figures that `write` wrote."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of an argument: names with commas between them, each of them known."""

    def parsed(text: str) -> list[str]:
        given = re.split(r",(?! )", text)  # a name may say with what
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(
                f"no such name: {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return given

    return parsed


def arguments(module: str, text: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark, which prints the module's own words as help."""
    return argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{module}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
