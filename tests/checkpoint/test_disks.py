"""Disks that really are full, and folders that really are closed: the system says so itself."""

import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest

import jopt
from tests.checkpoint.helpers import fails

SPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount():
    """Whether this system lets anyone have a disk of their own, in a namespace of their own."""
    if shutil.which("unshare") is None:
        return False
    command = [*SPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


FULL = """
import os, sys
import numpy as np
import jopt

folder = sys.argv[1]
old = {"x": np.zeros(100_000, np.float32), "step": 1}
jopt.save(folder + "/run.jopt", old)
for size in (700_000, 250_000, 200_000):  # far, a little, and just too large
    try:
        jopt.save(folder + "/run.jopt", {"x": np.ones(size, np.float32), "step": 2})
    except jopt.CheckpointError as error:
        print(error)
    assert os.listdir(folder) == ["run.jopt"], os.listdir(folder)
    back = jopt.load(folder + "/run.jopt")
    assert back["step"] == 1 and np.array_equal(back["x"], old["x"])
jopt.save(folder + "/run.jopt", {**old, "step": 3})
assert jopt.load(folder + "/run.jopt")["step"] == 3
"""

ADVICE = "The disk is full: make room, then save again."


def on_a_small_disk(folder, monkeypatch):
    """What is said on a disk of one megabyte."""
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && "$@"'
    command = [*SPACE, "sh", "-c", mount, "sh", folder, sys.executable, "-c", FULL, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(ADVICE) == 3
    return done.stdout


def on_a_full_device(folder, monkeypatch):
    """The device that has room for nothing stands for the temporary file."""
    jopt.save(folder / "run.jopt", {"step": 1})
    true = os.dup

    def dup(handle):
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "dup", dup)
    new = {"x": np.ones(300_000, np.float32)}
    text = fails("cannot be written", jopt.save, folder / "run.jopt", new)
    monkeypatch.setattr(os, "dup", true)
    assert os.listdir(folder) == ["run.jopt"]
    assert jopt.load(folder / "run.jopt") == {"step": 1}
    return text


# Not every system lets its users mount a disk, but all have the device.
@pytest.mark.parametrize("full", [on_a_full_device, *([on_a_small_disk] if can_mount() else [])])
def test_a_full_disk(tmp_path, monkeypatch, full):
    text = full(tmp_path, monkeypatch)
    assert "run.jopt cannot be written; what stood there before is untouched" in text
    assert "No space left on device" in text
    assert ADVICE in text


# Permissions do not bind root, so root becomes nobody.
CLOSED = """
import os, sys
import jopt

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for call in (lambda: jopt.save(sys.argv[1], {"step": 2}), lambda: jopt.load(sys.argv[2])):
    try:
        call()
    except jopt.CheckpointError as error:
        print(error)
assert jopt.load(sys.argv[1]) == {"step": 1}
"""


def test_a_read_only_folder():
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, where nobody may look
        path, secret = f"{folder}/run.jopt", f"{folder}/secret.jopt"
        for name, mode in ((path, 0o644), (secret, 0)):
            jopt.save(name, {"step": 1})
            os.chmod(name, mode)
        os.chmod(folder, 0o555)
        command = [sys.executable, "-c", CLOSED, path, secret]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(folder)) == ["run.jopt", "secret.jopt"]
        os.chmod(folder, 0o755)
    assert f"{path} cannot be written; what stood there before is untouched" in done.stdout
    assert f"{secret} cannot be read" in done.stdout
    assert done.stdout.count("Permission denied") == 2
    advice = "Ask for permission on the file and its folder, or choose another."
    assert done.stdout.count(advice) == 1
    assert done.stdout.count("Ask for permission to read the file.") == 1
