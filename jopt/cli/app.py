"""The program: its commands, exit codes, and how errors are shown."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata

import jax

from jopt.base import CallError, JoptError, as_row
from jopt.base.arguments import short
from jopt.cli import convert, diff, inspect, verify
from jopt.cli.output import complain, write

COMMANDS = {"inspect": inspect, "verify": verify, "diff": diff, "convert": convert}

SHELLS = ("bash", "zsh", "tcsh")
FILES = ("FILE", "FROM", "TO", "A", "B")
"""What stands for a file in the help."""

CLOSED, INTERRUPTED = 128 + 13, 128 + 2
"""What a shell reports for programs that end by SIGPIPE and SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 for well, 1 for a failed check, 2 for an error.

    130 is an interrupt, 141 a closed pipe, as shells have it.

    **Arguments:** `argv`, the words after `jopt`; `None` for those of this process.
    """
    if argv is None:
        # Python has no output at all where the shell has closed it (>&-).
        sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
        # A file is read on the host: no accelerator is claimed for it.
        jax.config.update("jax_platforms", "cpu")
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    return code


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    argv = None if argv is None else as_row(argv)
    words = isinstance(argv, tuple) and all(isinstance(x, str) for x in argv)
    if argv is not None and not words:
        expected = 'such as ["inspect", path]'
        raise CallError("main", "argv is a row of words", expected=expected, found=short(argv))
    try:
        args = parser.parse_args(argv)
        if args.completion is not None:
            write(_completion(parser, args.completion))
            return 0
        if args.command is None:
            parser.print_help(sys.stderr)
            return 2
        return int(COMMANDS[args.command].run(args))
    except SystemExit as done:  # argparse: --help, --version, or a wrong option
        return int(done.code or 0)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if args.traceback:
            raise
        if isinstance(error, ModuleNotFoundError) and error.name:
            library = error.name.split(".")[0]
            error = JoptError(
                f"jopt {args.command}",
                f"this format is read and written with {library}, which is not installed",
                fix=f"pip install {library}",
            )
        if isinstance(error, JoptError):
            complain(error)
        else:
            name = f"{type(error).__name__}: {error}"
            write(f"jopt {args.command}: {name}\n  --traceback shows where.", sys.stderr)
        return 2


def _completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that teaches a shell the words of the program."""
    try:
        import shtab
    except ImportError as error:
        raise JoptError(
            "jopt --completion",
            "completion is written by shtab, which is not installed",
            fix="pip install 'jopt[cli]'.",
        ) from error
    commands = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for one in (one for found in commands for one in found.values()):
        for action in one._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE
    return str(shtab.complete(parser, shell=shell))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jopt", description="Look into checkpoints, check them, compare and convert them."
    )
    parser.add_argument("--version", action="version", version=f"jopt {metadata.version('jopt')}")
    parser.add_argument(
        "--completion",
        choices=SHELLS,
        metavar="SHELL",
        help=f"print what makes a shell complete words: {', '.join(SHELLS)}",
    )
    parser.set_defaults(traceback=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.",
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(one)
    return parser
