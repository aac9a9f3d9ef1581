"""Runs the examples as a user does: in a process of their own."""

import subprocess
import sys
from pathlib import Path

from tests.processes import environment

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits.py"


def start(*command, cwd=None, **more):
    """The Python process of `command`, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment(PYTHONWARNINGS="error", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*command, cwd=None, **more):
    """The finished process of `command`: its exit status, output and errors."""
    process = start(*command, cwd=cwd, **more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def succeed(*command, cwd=None, **more):
    """The output of `command`, which must succeed without a word on stderr."""
    status, out, err = finish(*command, cwd=cwd, **more)
    assert (status, err) == (0, ""), err
    return out
