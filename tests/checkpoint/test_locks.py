"""The temporary file: one a target, locked while it is written, taken over from the dead."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

import jopt
from jopt.checkpoint import files
from tests.checkpoint.helpers import assert_same, fails

OLD = {"x": np.zeros(1000, np.float32), "step": 1}
NEW = {"x": np.ones(300_000, np.float32), "step": 2}
TEMPORARY = ".jopt-run.jopt.tmp"


def holds(folder, tree, *others):
    assert sorted(os.listdir(folder)) == sorted(["run.jopt", *others])
    assert_same(jopt.load(folder / "run.jopt"), tree)


def test_the_temporary_file_has_one_name(tmp_path, monkeypatch):
    seen = []
    true = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(os.path.basename(a)), true(a, b)))
    for tree in (OLD, NEW):
        jopt.save(tmp_path / "run.jopt", tree)
    assert seen == [TEMPORARY] * 2


@pytest.mark.parametrize("name", ["n" * 128, "n" * 129, "n" * 255, "ü" * 127])
def test_long_names(tmp_path, name):
    for tree in (OLD, NEW):
        jopt.save(tmp_path / name, tree)
        assert os.listdir(tmp_path) == [name]
        assert_same(jopt.load(tmp_path / name), tree)


def test_what_a_killed_save_left_is_taken_away(tmp_path):
    (tmp_path / TEMPORARY).write_bytes(b"half a checkpoint")
    (tmp_path / TEMPORARY).chmod(0o400)
    jopt.save(tmp_path / "run.jopt", OLD)
    holds(tmp_path, OLD)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "run.jopt").stat().st_mode) == 0o666 & ~umask


def test_a_file_is_as_private_while_it_is_written(tmp_path, monkeypatch):
    jopt.save(tmp_path / "run.jopt", OLD)
    (tmp_path / "run.jopt").chmod(0o600)
    modes = []
    true = os.chmod

    def chmod(path, mode):
        modes.append((stat.S_IMODE(os.stat(path).st_mode), mode))
        true(path, mode)

    monkeypatch.setattr(os, "chmod", chmod)
    jopt.save(tmp_path / "run.jopt", NEW)
    assert modes == [(0o600, 0o600)]


@pytest.mark.parametrize("what", ["link", "dead link", "folder", "pipe"])
def test_what_is_no_leftover_stays(tmp_path, what):
    """The temporary file then has another name, and nothing follows a link."""
    other, temporary = tmp_path / "other", tmp_path / TEMPORARY
    other.write_bytes(b"precious")
    if what == "folder":
        temporary.mkdir()
    elif what == "pipe":
        os.mkfifo(temporary)
    else:
        temporary.symlink_to(other if what == "link" else tmp_path / "nothing")
    before = temporary.lstat()
    for tree in (OLD, NEW):
        jopt.save(tmp_path / "run.jopt", tree)
        holds(tmp_path, tree, "other", TEMPORARY)
    assert os.path.samestat(temporary.lstat(), before)
    assert other.read_bytes() == b"precious"


def test_a_leftover_that_another_user_owns_stays(tmp_path, monkeypatch):
    (tmp_path / TEMPORARY).write_bytes(b"theirs")
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / TEMPORARY).stat().st_uid + 1)
    jopt.save(tmp_path / "run.jopt", OLD)
    holds(tmp_path, OLD, TEMPORARY)
    assert (tmp_path / TEMPORARY).read_bytes() == b"theirs"


def test_a_second_name_of_a_leftover_keeps_its_bytes(tmp_path):
    (tmp_path / "other").write_bytes(b"precious")
    os.link(tmp_path / "other", tmp_path / TEMPORARY)
    jopt.save(tmp_path / "run.jopt", OLD)
    holds(tmp_path, OLD, "other")
    assert (tmp_path / "other").read_bytes() == b"precious"


HOLDER = """
import sys
from jopt.checkpoint import files

def write(file):
    file.write(b"x" * 1000)
    print("writing", flush=True)
    sys.stdin.read()

files.replace("save", sys.argv[1], write)
"""


def test_a_second_process_is_refused(tmp_path):
    path = tmp_path / "run.jopt"
    jopt.save(path, OLD)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"writing\n"
        text = fails("another process is saving to this path", jopt.save, path, NEW)
        assert text.startswith(f"save: {path}: another process")
        assert "Let one process save, or give each a path of its own." in text
        jopt.save(tmp_path / "else.jopt", NEW)  # other paths are free
        (tmp_path / "else.jopt").unlink()
        holds(tmp_path, OLD, TEMPORARY)
        first.stdin.close()
        assert first.wait() == 0
    assert path.read_bytes() == b"x" * 1000
    jopt.save(path, NEW)
    holds(tmp_path, NEW)


def test_a_killed_process_holds_no_lock(tmp_path):
    path = tmp_path / "run.jopt"
    jopt.save(path, OLD)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"writing\n"
        first.kill()
    holds(tmp_path, OLD, TEMPORARY)
    jopt.save(path, NEW)
    holds(tmp_path, NEW)


def test_a_second_thread_is_refused(tmp_path):
    path = tmp_path / "run.jopt"
    jopt.save(path, OLD)
    fails(
        "another process is saving to this path",
        files.replace, "save", path, lambda file: jopt.save(path, NEW),
    )  # fmt: skip
    holds(tmp_path, OLD)


def test_threads_that_save_at_once(tmp_path):
    path, outcomes = tmp_path / "run.jopt", []
    barrier = threading.Barrier(4)

    def work(i):
        for step in range(20):
            barrier.wait()
            try:
                jopt.save(path, {"x": np.full(1000, 100 * i + step)})
                outcomes.append("saved")
            except jopt.CheckpointError as error:
                outcomes.append(error.problem.split(": ")[1])

    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 80
    assert set(outcomes) <= {"saved", "another process is saving to this path"}
    assert outcomes.count("saved") >= 20  # one of every four at the least
    assert os.listdir(tmp_path) == ["run.jopt"]
    assert len(set(jopt.load(path)["x"])) == 1


def test_a_writer_that_renames_its_file_away_in_between(tmp_path, monkeypatch):
    """The lock is then on the file that has its name already; the next try makes a new one."""
    path, temporary = tmp_path / "run.jopt", tmp_path / TEMPORARY
    temporary.write_bytes(b"")
    true, calls = fcntl.flock, []

    def flock(handle, how):
        calls.append(how)
        if len(calls) == 1:
            os.replace(temporary, tmp_path / "first")
        true(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    jopt.save(path, OLD)
    holds(tmp_path, OLD, "first")
    assert len(calls) == 2
    assert (tmp_path / "first").read_bytes() == b""


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks(tmp_path, monkeypatch, code):
    def flock(handle, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    check_without_locks(tmp_path, monkeypatch)


def test_a_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    check_without_locks(tmp_path, monkeypatch)


def check_without_locks(tmp_path, monkeypatch):
    """Every writer has a name of its own; the last to end wins."""
    path, seen = tmp_path / "run.jopt", set()
    true = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.add(os.path.basename(a)), true(a, b)))

    def write(file):
        file.write(b"x")
        jopt.save(path, NEW)
        holds(tmp_path, NEW, *(n for n in os.listdir(tmp_path) if n.endswith(".tmp")))

    files.replace("save", path, write)
    assert path.read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["run.jopt"]
    assert len(seen) == 2
    assert TEMPORARY not in seen


def test_no_handle_stays_open(tmp_path):
    def handles():
        return len(os.listdir("/proc/self/fd"))

    jopt.save(tmp_path / "run.jopt", OLD)
    before = handles()
    (tmp_path / TEMPORARY).write_bytes(b"left")
    jopt.save(tmp_path / "run.jopt", NEW)
    fails("cannot be in a checkpoint", jopt.save, tmp_path / "run.jopt", {"x": print})
    (tmp_path / TEMPORARY).mkdir()
    jopt.save(tmp_path / "run.jopt", OLD)
    assert handles() == before
