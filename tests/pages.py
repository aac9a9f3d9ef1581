"""The code on a page of the documentation, taken out and run.

Each ```python block is executed, as a doctest where it has prompts. In ```console blocks the lines
`$ jopt ...` are run, and what follows is compared; `$ echo $?` gives the exit code. Blocks in
another language (```text, ```bash) are not run.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from pathlib import Path

import jax

from jopt.cli import main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(text):
    """Each python block of a page, with the number of its first line."""
    return [(text.count("\n", 0, m.start(1)) + 1, m[1]) for m in BLOCK.finditer(text)]


@contextlib.contextmanager
def as_users_programs():
    """jax's own promotion: what pages take from other libraries is not written for strictness."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def run_block(code, page, line, namespace):
    if ">>>" not in code:
        # Blank lines before the code make tracebacks show the page's own line numbers.
        exec(compile("\n" * (line - 1) + code, page, "exec"), namespace)
        return
    test = doctest.DocTestParser().get_doctest(code, namespace, page, page, line - 1)
    report = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)
    namespace.update(test.globs)


def run_console(code, page, line):
    """Each `$ jopt ...` of a block, in this process, against what stands below it."""
    last = 0
    for step in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, expected = step.split("\n", 1)
        shown = io.StringIO()
        if command == "echo $?":
            shown.write(f"{last}\n")
        else:
            program, *words = shlex.split(command)
            assert program == "jopt", f"{page}, line {line}: only jopt is run, not {program}"
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                last = main(words)
        found = shown.getvalue()
        fits = doctest.OutputChecker().check_output(expected, found, FLAGS)
        assert fits, f"{page}, block at line {line}, $ {command}\n{found}"


def run(text, page, namespace, lines_before=0):
    """Every block of a text, from top to bottom in one namespace."""
    for block in RUN.finditer(text):
        line = lines_before + text.count("\n", 0, block.start(2)) + 1
        if block[1] == "python":
            run_block(block[2], page, line, namespace)
        else:
            run_console(block[2], page, line)
