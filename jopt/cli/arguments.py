"""Options that several commands share."""

from __future__ import annotations

import argparse
import math
import re

from jopt.cli.formats import FORMATS
from jopt.cli.output import COLORS


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression, searched for in a path as groups do it."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def tolerance(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return value


def add_common(
    parser: argparse.ArgumentParser,
    *,
    json: bool = False,
    source: bool = False,
    whole: bool = False,
) -> None:
    """The options that every command has, and those that the flags ask for."""
    if source:
        parser.add_argument(
            "--from",
            dest="source",
            choices=FORMATS,
            metavar="FORMAT",
            help=f"format of what is read: {', '.join(FORMATS)}; else from content and suffix",
        )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    if whole:
        parser.add_argument(
            "--all", action="store_true", help="show every row, however many there are"
        )
    if json:
        parser.add_argument(
            "--color", choices=COLORS, default="auto", help="auto: on a terminal, without NO_COLOR"
        )
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error was raised"
    )
    parser.set_defaults(error=parser.error)
