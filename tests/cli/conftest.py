"""A checkpoint with all that a checkpoint may hold, written once for all tests of this room."""

import pytest

import jopt
from tests.cli.helpers import run_of, transform


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """The file, and the tree in it as NumPy arrays."""
    path = tmp_path_factory.mktemp("cli") / "run.jopt"
    tx = transform()
    jopt.save(path, run_of(tx), tx=tx)
    return path, jopt.load(path)


@pytest.fixture
def work(saved, tmp_path, monkeypatch):
    """The tree in that file; a copy of it, `run.jopt`, is alone in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "run.jopt").write_bytes(saved[0].read_bytes())
    return saved[1]
