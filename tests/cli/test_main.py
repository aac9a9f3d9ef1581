"""The program around the commands: entry points, errors, colour, pipes, terminals."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jopt
from jopt.cli import main
from tests.cli.helpers import jopt_command

ENTRY_POINTS = ([sys.executable, "-m", "jopt"], [str(Path(sys.executable).parent / "jopt")])


@pytest.mark.parametrize("command", ENTRY_POINTS, ids=["module", "script"])
def test_the_entry_points(work, capsys, command):
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run(
        [*command, "verify", "run.jopt", "no.jopt"], capture_output=True, text=True, env=env
    )
    assert done.returncode == 2
    assert (done.stdout, done.stderr) == jopt_command(capsys, "verify", "run.jopt", "no.jopt")[1:]
    assert "Traceback" not in done.stderr


def test_the_process_claims_no_accelerator(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("jax.config.update", lambda *option: asked.append(option))
    monkeypatch.setattr(sys, "argv", ["jopt", "--version"])
    assert main() == 0
    assert asked == [("jax_platforms", "cpu")]
    assert main(["--version"]) == 0  # called by a program that may want its devices
    assert len(asked) == 1


def test_version_and_help(capsys):
    assert jopt_command(capsys, "--version") == (0, f"jopt {jopt.__version__}\n", "")
    code, out, _ = jopt_command(capsys, "--help")
    assert code == 0
    for name in ("inspect", "verify", "diff", "convert"):
        assert f"\n    {name} " in out
        code, text, _ = jopt_command(capsys, name, "--help")
        assert (code, f"examples:\n  jopt {name} " in text) == (0, True)
    assert jopt_command(capsys)[:2] == (2, "")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["inspect"], "the following arguments are required: FILE"),
        (["inspect", "run.jopt", "--match", "("], "'(' is no regular expression: missing )"),
        (["inspect", "run.jopt", "--no-stats", "--sort", "nans"], "--sort nans needs what"),
        (["diff", "run.jopt"], "the following arguments are required: B"),
        (["inspect", "run.jopt", "--from", "zip"], "invalid choice: 'zip'"),
        (["explain"], "invalid choice: 'explain'"),
    ],
)
def test_wrong_use_is_2(work, capsys, words, problem):
    code, out, err = jopt_command(capsys, *words)
    assert (code, out) == (2, "")
    assert problem in err


def test_an_unexpected_error_is_one_line_and_a_traceback_on_demand(work, capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr("jopt.cli.inspect.describe", broken)
    code, out, err = jopt_command(capsys, "inspect", "run.jopt")
    assert (code, out) == (2, "")
    assert err == "jopt inspect: RuntimeError: a bug\n  --traceback shows where.\n"
    with pytest.raises(RuntimeError, match="a bug"):
        main(["inspect", "run.jopt", "--traceback"])
    with pytest.raises(jopt.CheckpointError, match=r"no\.jopt cannot be read"):
        main(["verify", "no.jopt", "--traceback"])


def test_an_interrupt_is_silent(work, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("jopt.cli.inspect.describe", interrupted)
    assert jopt_command(capsys, "inspect", "run.jopt") == (130, "", "")


@pytest.mark.parametrize(
    ("words", "env", "terminal", "colored"),
    [
        ([], {}, False, False),
        ([], {}, True, True),
        ([], {"NO_COLOR": "1"}, True, False),
        ([], {"TERM": "dumb"}, True, False),
        (["--color", "always"], {"NO_COLOR": "1"}, False, True),
        (["--color", "never"], {}, True, False),
    ],
)
def test_colour(work, capsys, monkeypatch, words, env, terminal, colored):
    for name in ("NO_COLOR", "TERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"COLUMNS": "200", **env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    _, out, _ = jopt_command(capsys, "inspect", "run.jopt", *words)
    assert ("\x1b[" in out) == colored


def test_a_closed_pipe_is_silent(work):
    code = "import sys; from jopt.cli import main; sys.exit(main(['inspect', 'run.jopt'] * 1))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (141, b"")


def test_names_cannot_steer_the_terminal(work, capsys):
    jopt.save("evil.jopt", {"\x1b[2J\nw": 1, "[bold]x[/bold]": "\x1b]0;owned\x07"})
    _, out, _ = jopt_command(capsys, "inspect", "evil.jopt")
    assert "\x1b" not in out
    assert r"\x1b[2J\nw" in out
    assert "[bold]x[~1bold]" in out
    code, _, err = jopt_command(capsys, "inspect", "\x1b[2Jno.jopt")
    assert (code, err.split(" cannot")[0]) == (2, r"jopt inspect: \x1b[2Jno.jopt")


def test_a_terminal_without_unicode(work, monkeypatch):
    jopt.save("greek.jopt", {"μ": 1})
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", newline="\n"))
    assert main(["inspect", "greek.jopt"]) == 0
    assert re.search(rb"^\\u03bc +int +1 ", raw.getvalue(), re.MULTILINE)


def test_tables_need_rich_and_json_does_not(work, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    code, out, err = jopt_command(capsys, "inspect", "run.jopt")
    assert (code, out) == (2, "")
    assert err == (
        "jopt inspect: tables are drawn by rich, which is not installed\n"
        "  pip install 'jopt[cli]', or take --json.\n"
    )
    assert jopt_command(capsys, "inspect", "run.jopt", "--json")[0] == 0
    assert jopt_command(capsys, "verify", "run.jopt")[0] == 0


@pytest.mark.parametrize("words", [["inspect", "run.jopt"], ["diff", "run.jopt", "run.jopt"]])
def test_a_pattern_that_matches_nothing_is_an_error(work, capsys, words):
    code, out, err = jopt_command(capsys, *words, "--match", "no such leaf")
    assert (code, out) == (2, "")
    assert "--match has a pattern that matches no leaf\n  found:    'no such leaf'" in err


def test_without_any_output(work, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jopt", "verify", "run.jopt"])
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr("jax.config.update", lambda *option: None)
    assert main() == 0


def test_a_library_that_is_missing_is_named(work, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    code, out, err = jopt_command(capsys, "convert", "run.jopt", "run.msgpack")
    assert (code, out) == (2, "")
    assert "with flax, which is not installed\n  pip install flax\n" in err
