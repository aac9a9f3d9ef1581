"""Runs the examples as a user does: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits.py"

# The tests' own process simulates eight devices; a user's does not.
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONWARNINGS": "error"}


def start(*command, cwd=None, **environment):
    """The Python process of `command`, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*command, cwd=None, **environment):
    """The finished process of `command`: its exit status, output and errors."""
    process = start(*command, cwd=cwd, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def succeed(*command, cwd=None, **environment):
    """The output of `command`, which must succeed without a word on stderr."""
    status, out, err = finish(*command, cwd=cwd, **environment)
    assert (status, err) == (0, ""), err
    return out
