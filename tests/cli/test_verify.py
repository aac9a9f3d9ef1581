"""`jopt verify`: sound files, damaged ones, and what cannot be read."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

import jopt
import jopt.interop.orbax
import jopt.interop.safetensors
from tests.cli.helpers import jopt_command, report_of


def damage(path, at, to="bad.jopt"):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    (path.parent / to).write_bytes(data)


def test_a_sound_file(work, tmp_path, capsys):
    size = (tmp_path / "run.jopt").stat().st_size
    found = jopt_command(capsys, "verify", "run.jopt")
    assert found == (0, f"run.jopt: ok, 23 leaves, {size / 1000:.3g} kB\n", "")
    (entry,) = report_of(capsys, "verify", "run.jopt")["files"]
    assert entry == {
        "file": "run.jopt", "ok": True, "leaves": 23, "size": size, "at": None, "error": None
    }  # fmt: skip


def test_a_damaged_array_is_named(work, tmp_path, capsys):
    place = (tmp_path / "run.jopt").read_bytes().rindex(work["params"]["dense"]["w"].tobytes())
    damage(tmp_path / "run.jopt", place + 17)
    code, out, err = jopt_command(capsys, "verify", "run.jopt", "bad.jopt", "run.jopt")
    assert code == 1
    assert [line.split(",")[0] for line in out.splitlines()] == ["run.jopt: ok"] * 2
    assert err.startswith(
        "jopt verify bad.jopt: the checkpoint is damaged: the bytes of an array do not match their "
        "checksum\n  at:       params/dense/w\n  expected: "
    )
    report = report_of(capsys, "verify", "run.jopt", "bad.jopt", code=1)
    assert report["ok"] is False
    assert [f["ok"] for f in report["files"]] == [True, False]
    assert report["files"][1]["at"] == "params/dense/w"
    assert report["files"][1]["error"] == err.removesuffix("\n")


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_bit_anywhere_counts(work, tmp_path, capsys, at):
    damage(tmp_path / "run.jopt", at)
    assert jopt_command(capsys, "verify", "bad.jopt")[0] == 1


def test_a_file_cut_short(work, tmp_path, capsys):
    (tmp_path / "bad.jopt").write_bytes((tmp_path / "run.jopt").read_bytes()[:-5])
    code, out, err = jopt_command(capsys, "verify", "bad.jopt")
    assert (code, out) == (1, "")
    assert "jopt verify bad.jopt: the checkpoint is damaged: it ends after" in err


def test_unreadable_is_worse_than_damaged(work, tmp_path, capsys):
    damage(tmp_path / "run.jopt", -1)
    code, out, err = jopt_command(capsys, "verify", "nothing.jopt", "bad.jopt", "run.jopt")
    assert code == 2
    assert out.startswith("run.jopt: ok")
    assert "nothing.jopt cannot be read\n  found:    No such file or directory" in err


def test_another_kind_of_file_fails(work, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no checkpoint")
    code, _, err = jopt_command(capsys, "verify", "notes.txt")
    assert code == 1
    assert "jopt verify notes.txt: this is no jopt checkpoint" in err


TREE = {"w": np.random.default_rng(0).standard_normal((64, 8)), "b": np.ones(3, np.int8), "n": 1}


def test_a_safetensors_file(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    jopt.interop.safetensors.save(path, TREE)
    code, out, _ = jopt_command(capsys, "verify", path)
    assert (code, out.split(",")[:2]) == (0, [f"{path}: ok", " 3 leaves"])
    place = path.read_bytes().index(TREE["w"].tobytes())
    damage(path, place + 99, "bad.safetensors")
    code, out, err = jopt_command(capsys, "verify", tmp_path / "bad.safetensors")
    assert (code, out) == (1, "")
    assert "the bytes of an array do not match their checksum\n  at:       w" in err
    damage(path, 12, "bad.safetensors")
    assert jopt_command(capsys, "verify", tmp_path / "bad.safetensors")[0] == 1


# orbax, stopped by an error, leaves coroutines behind that complain of their closed loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_orbax_folder(tmp_path, capsys):
    path = tmp_path / "x"
    jopt.interop.orbax.save(path, TREE)
    code, out, _ = jopt_command(capsys, "verify", path)
    assert (code, out.split(",")[:2]) == (0, [f"{path}: ok", " 3 leaves"])
    for file in sorted(path.glob("**/d/*")):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    report = report_of(capsys, "verify", path, code=1)
    assert not report["ok"]
    shutil.rmtree(path)
    path.mkdir()
    code, _, err = jopt_command(capsys, "verify", path)
    assert code == 1
    assert "this folder is no orbax checkpoint" in err


def test_what_has_no_checksums_cannot_be_verified(tmp_path, capsys):
    save_file({"w": np.ones(2)}, tmp_path / "x.safetensors")
    code, _, err = jopt_command(capsys, "verify", tmp_path / "x.safetensors")
    assert code == 1
    assert "was not written by jopt: it has no checksums\n  jopt convert gives it some" in err


def test_a_missing_file_cannot_be_read(tmp_path, capsys):
    assert jopt_command(capsys, "verify", tmp_path / "none.safetensors")[0] == 2
