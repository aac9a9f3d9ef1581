"""Completion of words by the shell, and what is said where its library is not there."""

import sys
from types import SimpleNamespace

import pytest

from jopt.cli import main
from tests.cli.helpers import jopt_command, report_of


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shtab_gets_the_parser_with_its_files_marked(capsys, monkeypatch, shell):
    seen = {}

    def complete(parser, shell):
        (commands,) = (a.choices for a in parser._actions if a.dest == "command")
        for name, one in commands.items():
            marked = {a.dest for a in one._actions if getattr(a, "complete", None) == "a file"}
            seen[name] = marked
        return f"the script for {shell}"

    monkeypatch.setitem(sys.modules, "shtab", SimpleNamespace(FILE="a file", complete=complete))
    assert jopt_command(capsys, "--completion", shell) == (0, f"the script for {shell}\n", "")
    assert seen == {
        "inspect": {"file"},
        "verify": {"files"},
        "diff": {"a", "b"},
        "convert": {"file", "target", "params"},
    }


def test_without_the_library_it_says_which_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = jopt_command(capsys, "--completion", "bash")
    assert (code, out) == (2, "")
    assert "shtab, which is not installed" in err
    assert "jopt[cli]" in err
    assert main(["--completion", "fish"]) == 2


def test_convert_reports_as_json(work, capsys):
    found = report_of(capsys, "convert", "run.jopt", "run.safetensors")
    assert found == {
        "from": {"file": "run.jopt", "format": "jopt"},
        "to": {"file": "run.safetensors", "format": "safetensors"},
        "leaves": 23,
        "bytes": 256,
        "transform_left_behind": True,
        "objects": [],
    }


@pytest.mark.parametrize("command", ["inspect", "verify", "diff", "convert"])
def test_every_command_has_json_and_tells_its_exit_codes(capsys, command):
    _, out, _ = jopt_command(capsys, command, "--help")
    assert "--json" in out
    assert "exit codes: 0 " in out
