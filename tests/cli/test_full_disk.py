"""A disk that fills while a file of any format is written."""

import os

import numpy as np
import pytest

import jopt
from tests.cli.helpers import jopt_command


@pytest.mark.parametrize("suffix", ["jopt", "pt", "safetensors", "msgpack"])
@pytest.mark.parametrize("size", [10, 300_000])
def test_a_full_disk_is_named(tmp_path, capsys, monkeypatch, suffix, size):
    jopt.save(tmp_path / "run.jopt", {"x": np.ones(size, np.float32), "step": 1})
    target = tmp_path / f"out.{suffix}"
    target.write_bytes(b"old")
    # The device that has room for nothing stands for the temporary file.
    monkeypatch.setattr(os, "dup", lambda handle: os.open("/dev/full", os.O_WRONLY))
    code, out, err = jopt_command(capsys, "convert", tmp_path / "run.jopt", target, "--force")
    monkeypatch.undo()
    assert (code, out) == (2, "")
    assert f"{target} cannot be written; what stood there before is untouched" in err
    assert "No space left on device" in err
    assert "The disk is full: make room, then save again." in err
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == sorted(["run.jopt", target.name])


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    jopt.save(tmp_path / "run.jopt", {"x": np.ones(3)})
    (tmp_path / "file").write_bytes(b"")
    code, _, err = jopt_command(
        capsys, "convert", tmp_path / "run.jopt", tmp_path / "file" / "x", "--to", "orbax"
    )
    assert code == 2
    assert "cannot be written" in err
