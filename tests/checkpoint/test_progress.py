"""The bar: where it helps or is asked for, and nowhere else."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import jopt
from jopt.checkpoint import progress
from tests.checkpoint.helpers import assert_same, fails

TREE = {"x": np.arange(3_000_000, dtype=np.float32), "step": 1}


@pytest.fixture
def terminal(monkeypatch, capsys):
    """As if on a terminal; gives what was written there since the last time."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "_is_terminal", lambda: True)
    return lambda: capsys.readouterr().err


def both(path, **arguments):
    jopt.save(path, TREE, **arguments)
    assert_same(jopt.load(path, **arguments), TREE)


def test_a_large_file_on_a_terminal(tmp_path, terminal, monkeypatch):
    monkeypatch.setattr(progress, "LARGE", TREE["x"].nbytes)
    both(tmp_path / "run.jopt")
    text = terminal()
    assert "Saving" in text
    assert "Loading run.jopt" in text
    assert "11.4/11.4 MiB" in text


@pytest.mark.parametrize("tree", [{"step": 1}, {"x": np.zeros((0, 3))}])
def test_a_bar_for_next_to_nothing(tmp_path, terminal, tree):
    jopt.save(tmp_path / "run.jopt", tree, progress=True)
    assert "0/0 bytes" in terminal()
    assert_same(jopt.load(tmp_path / "run.jopt", progress=True), tree)


@pytest.mark.parametrize("progress", [None, False])
def test_a_small_file_or_none_wanted(tmp_path, terminal, progress):
    both(tmp_path / "run.jopt", progress=progress)
    assert terminal() == ""


def test_a_large_file_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LARGE", 1)
    both(tmp_path / "run.jopt")  # pytest's stderr is no terminal
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    both(tmp_path / "run.jopt")


def test_the_bytes_are_the_same(tmp_path, terminal):
    jopt.save(tmp_path / "run.jopt", TREE, progress=True)
    assert (tmp_path / "run.jopt").read_bytes() == jopt.to_bytes(TREE)


def test_errors_pass_through_the_bar(tmp_path, terminal):
    jopt.save(tmp_path / "run.jopt", TREE)
    data = bytearray((tmp_path / "run.jopt").read_bytes())
    data[-1] ^= 1
    (tmp_path / "run.jopt").write_bytes(data)
    fails("do not match their checksum", jopt.load, tmp_path / "run.jopt", progress=True)


def test_without_rich(tmp_path, terminal, monkeypatch):
    true = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "rich" else true(name, *a)
    )
    monkeypatch.setattr(progress, "LARGE", 1)
    both(tmp_path / "run.jopt")
    assert terminal() == ""
    text = fails("rich, which is missing", jopt.save, tmp_path / "new", TREE, progress=True)
    assert "pip install 'jopt[cli]'" in text
    assert not (tmp_path / "new").exists()


def test_nothing_is_imported_for_no_bar(tmp_path):
    code = (
        "import sys, numpy as np, jopt\n"
        "jopt.save(sys.argv[1], {'x': np.zeros(9)}); jopt.load(sys.argv[1])\n"
        "assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "x"], check=True)


def test_the_name_of_a_file_is_no_markup(tmp_path, terminal):
    path = tmp_path / "a[red].jopt"
    both(path, progress=True)
    assert "a[red].jopt" in terminal()
    (tmp_path / "b[").mkdir()
    both(tmp_path / "b[" / "]", progress=True)
