"""`jopt verify`: whether files are what was written."""

from __future__ import annotations

import argparse
import os
from typing import Any

from jopt.base import CheckpointError, JoptError, printable
from jopt.cli.arguments import add_common
from jopt.cli.formats import format_of
from jopt.cli.output import complain, write, write_json
from jopt.cli.sources import opened
from jopt.tables.text import leaves, size

SUMMARY = "check every byte of checkpoints"

EXAMPLES = """\
examples:
  jopt verify run.jopt
  jopt verify checkpoints/*.jopt && echo all are sound
  jopt verify run.safetensors steps/100      # of jopt.interop.safetensors and orbax
  jopt verify run.jopt --json | jq .ok

exit codes: 0 all are sound, 1 one is damaged, 2 one cannot be read
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="jopt checkpoints: files, safetensors files, orbax folders",
    )
    add_common(parser, json=True)


def run(args: argparse.Namespace) -> int:
    """Print a line a file, errors on the standard error; see the exit codes above."""
    results = []
    worst = 0
    for name in args.files:
        result, error = _check(name)
        results.append(result)
        if error is not None:
            worst = max(worst, 2 if isinstance(error.__cause__, OSError) else 1)
            if not args.json:
                complain(error)
            if args.traceback:
                raise error
        elif not args.json:
            write(f"{printable(name)}: ok, {leaves(result['leaves'])}, {size(result['size'])}")
    if args.json:
        write_json({"ok": worst == 0, "files": results})
    return worst


def _check(name: str) -> tuple[dict[str, Any], JoptError | None]:
    result: dict[str, Any] = {"file": name, "ok": False, "leaves": None, "size": None}
    try:
        with opened("jopt verify", name, _format(name)) as source:
            if not source.summed:
                raise CheckpointError(
                    f"jopt verify {name}",
                    f"this {source.format} checkpoint was not written by jopt: it has no checksums",
                    fix="jopt convert gives it some; jopt inspect shows what is in it.",
                )
            result |= {"leaves": len(source.kinds), "size": source.size}
            for _ in source.scan(None):
                pass
    except JoptError as error:
        return {**result, "at": error.path, "error": str(error)}, error
    return {**result, "ok": True, "at": None, "error": None}, None


def _format(name: str) -> str:
    """What it would have to be if it is a checkpoint of jopt's."""
    if os.path.isdir(name):
        return "orbax"
    try:
        found = format_of("jopt verify", name, exists=True).name
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError):
            raise
        found = "jopt"
    return found if found == "safetensors" else "jopt"
