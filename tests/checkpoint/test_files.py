"""Files: all or nothing, whatever happens while one is written."""

import errno
import os
import resource
import stat

import numpy as np
import pytest

import jopt
from jopt.checkpoint import files
from tests.checkpoint.helpers import assert_same, fails

OLD = {"x": np.zeros(1000, np.float32), "step": 1}
NEW = {"x": np.ones(300_000, np.float32), "step": 2}


def untouched(folder):
    assert os.listdir(folder) == ["run.jopt"]
    assert_same(jopt.load(folder / "run.jopt"), OLD)


def test_bytes_of_the_file_are_those_of_to_bytes(tmp_path):
    for tree in (OLD, NEW, OLD):
        jopt.save(str(tmp_path / "run.jopt"), tree)
        assert (tmp_path / "run.jopt").read_bytes() == jopt.to_bytes(tree)
        assert_same(jopt.load(tmp_path / "run.jopt"), tree)
    untouched(tmp_path)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "The disk is full: make room, then save again."),
        (errno.EDQUOT, "Your quota is used up"),
        (errno.EIO, "See the system's message above."),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, call, code, advice):
    jopt.save(tmp_path / "run.jopt", OLD)

    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    text = fails("cannot be written", jopt.save, tmp_path / "run.jopt", NEW)
    assert advice in text
    assert os.strerror(code) in text
    assert str(tmp_path / "run.jopt") in text
    untouched(tmp_path)


def test_a_full_disk_in_the_middle_of_an_array(tmp_path):
    jopt.save(tmp_path / "run.jopt", OLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        text = fails("cannot be written", jopt.save, tmp_path / "run.jopt", NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "ulimit -f" in text
    untouched(tmp_path)


def test_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    jopt.save(tmp_path / "run.jopt", OLD)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        jopt.save(tmp_path / "run.jopt", NEW)
    untouched(tmp_path)


def test_a_leaf_that_is_no_data_leaves_the_old_file(tmp_path):
    jopt.save(tmp_path / "run.jopt", OLD)
    fails("these leaves cannot be in a checkpoint", jopt.save, tmp_path / "run.jopt", {"x": print})
    untouched(tmp_path)


def test_a_folder_that_may_not_outlast_a_loss_of_power(tmp_path, monkeypatch):
    def fail(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "_sync_folder", fail)
    fails("is written, but may not outlast a loss of power", jopt.save, tmp_path / "run.jopt", OLD)
    untouched(tmp_path)


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        true = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, true=true: (calls.append(name), true(*a))[1]
        )
    jopt.save(tmp_path / "run.jopt", OLD)
    assert calls == ["fsync", "replace", "fsync"]


def test_paths_that_cannot_be_written(tmp_path):
    text = fails("cannot be written", jopt.save, tmp_path / "no" / "run.jopt", OLD)
    assert "Make the folder first" in text
    text = fails("cannot be written", jopt.save, tmp_path, OLD)
    assert "The path is a folder; name a file." in text
    text = fails("cannot be written", jopt.save, tmp_path / ("n" * 300), OLD)
    assert "Choose a shorter name." in text
    assert os.listdir(tmp_path) == []


def test_a_read_only_disk(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    text = fails("cannot be written", jopt.save, tmp_path / "run.jopt", OLD)
    assert "The disk is read-only; choose another." in text


def test_paths_that_cannot_be_read(tmp_path):
    text = fails("cannot be read", jopt.load, tmp_path / "run.jopt")
    assert "No such file" in text
    assert "Correct the path: nothing has been saved there." in text
    text = fails("cannot be read", jopt.load, tmp_path)
    assert "The path is a folder" in text


def test_errors_of_a_file_name_it(tmp_path):
    jopt.save(tmp_path / "run.jopt", OLD)
    data = (tmp_path / "run.jopt").read_bytes()
    (tmp_path / "run.jopt").write_bytes(data[:-1])
    text = fails("damaged: it ends after", jopt.load, tmp_path / "run.jopt")
    assert text.startswith(f"load('{tmp_path}/run.jopt'): ")
    assert "at:       x" in text


def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "run.jopt", tmp_path / "latest.jopt"
    old = os.umask(0o027)
    try:
        jopt.save(path, OLD)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    link.symlink_to("run.jopt")
    jopt.save(link, NEW)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert_same(jopt.load(path), NEW)


def device(path):
    path.symlink_to("/dev/null")


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [device, pipe])
def test_what_is_no_regular_file_is_never_replaced(tmp_path, make):
    make(tmp_path / "special")
    before = os.stat(tmp_path / "special")
    text = fails("cannot be written", jopt.save, tmp_path / "special", OLD)
    assert "name a regular file" in text
    assert os.path.samestat(before, os.stat(tmp_path / "special"))
    assert os.listdir(tmp_path) == ["special"]


def test_a_pipe_that_nobody_writes_to_does_not_hang(tmp_path):
    pipe(tmp_path / "run.jopt")
    assert "name a regular file" in fails("cannot be read", jopt.load, tmp_path / "run.jopt")


def test_paths_as_bytes(tmp_path):
    path = os.fsencode(tmp_path / "run.jopt")
    jopt.save(path, OLD)
    assert_same(jopt.load(path), OLD)


@pytest.mark.parametrize(
    ("path", "problem"), [("a\0b", "a NUL"), (None, "no path"), ({}, "no path")]
)
def test_what_is_no_path(path, problem):
    fails(problem, jopt.save, path, OLD)
    fails(problem, jopt.load, path)


def test_a_slash_at_the_end_is_not_dropped(tmp_path):
    jopt.save(tmp_path / "run.jopt", OLD)
    assert "name a file" in fails("cannot be written", jopt.save, f"{tmp_path}/run.jopt/", NEW)
    untouched(tmp_path)
