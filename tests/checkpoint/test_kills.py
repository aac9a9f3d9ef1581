"""A process killed while it saves: at random moments, and after every line of the code."""

import os
import subprocess
import sys
import tempfile

import pytest

CHILDREN = """
def killed(child):
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return False
    assert os.WTERMSIG(status) == signal.SIGKILL
    return True

def taken(save):
    # A child's first save takes several times as long as the next.
    began = time.perf_counter()
    if (child := os.fork()) == 0:
        save()
        os._exit(0)
    assert not killed(child)
    return time.perf_counter() - began

def dies(child, each):
    time.sleep(rng.uniform(0, min(4 * each, 0.03)))
    os.kill(child, signal.SIGKILL)
    assert killed(child)
"""

COMMON = (
    CHILDREN
    + """
import os, random, signal, sys, time
import numpy as np
import jopt
from jopt.checkpoint import files, wire

folder, kills = sys.argv[1], int(sys.argv[2])
path = folder + "/run.jopt"
wire.STEP = 2**12  # many calls to write
files.BUFFER = 2**12

def save(step, size):
    jopt.save(path, {"step": step, "x": np.full(size, step, np.float32)})

def whole(size):
    tree = jopt.load(path)
    assert sorted(tree) == ["step", "x"] and tree["x"].shape == (size,), tree
    assert (tree["x"] == tree["step"]).all(), tree
    return tree["step"]

def leftovers():
    names = os.listdir(folder)
    names.remove("run.jopt")
    assert names in ([], [".jopt-run.jopt.tmp"]), names
    return len(names)
"""
)

# The saves go on until the kill, so that it may come at any moment of one.
RANDOM = """
rng, steps, unfinished, size = random.Random(0), set(), 0, 20_000
save(1, size)
each = taken(lambda: save(1, size))
for kill in range(kills):
    child = os.fork()
    if child == 0:
        for step in range(100 * kill, 10**9):
            save(step, size)
    dies(child, each)
    steps.add(whole(size))
    unfinished += leftovers()
save(1, size)
assert leftovers() == 0 and whole(size) == 1
print(kills, len(steps), unfinished)
"""

# Python tells of every line before it runs, of these files alone: the kill comes before the n-th.
# Once in a clean folder, and once more over what that kill has left.
EVERY = """
where = {module.__file__ for module in (files, wire)}
size, old, new, unfinished, n = 2_500, 0, 0, 0, 0

def killed_at(n):
    child = os.fork()
    if child == 0:
        left = n
        def count(frame, event, arg):
            nonlocal left
            if frame.f_code.co_filename not in where:
                return None
            left -= event == "line"
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return count
        sys.settrace(count)
        save(2, size)
        os._exit(0)
    return killed(child)

save(1, size)
while killed_at(n := n + 1):
    old, new = old + (whole(size) == 1), new + (whole(size) == 2)
    unfinished += leftovers()
    if leftovers():
        killed_at(n)
        assert whole(size) in (1, 2) and leftovers() <= 1
    save(1, size)
    assert leftovers() == 0 and whole(size) == 1
assert whole(size) == 2 and leftovers() == 0
print(old, new, unfinished)
"""


@pytest.fixture
def folder():
    # What a killed process has written is in the system's hands, so a disk in memory shows the
    # same as any other, and never waits.
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield made


def started(script, folder, kills):
    """What a process says that runs this script in this folder."""
    command = [sys.executable, "-c", script, folder, str(kills)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(script, folder, kills):
    return map(int, started(COMMON + script, folder, kills).split())


def test_killed_at_random_moments_the_file_loads(folder):
    kills, distinct, unfinished = run(RANDOM, folder, 200)
    assert kills == 200
    assert distinct > 25
    assert unfinished > 20  # so many kills came while a file was being written


@pytest.mark.slow
def test_killed_a_thousand_times_the_file_loads(folder):
    kills, distinct, unfinished = run(RANDOM, folder, 1000)
    assert kills == 1000
    assert distinct > 250
    assert unfinished > 100


def test_killed_at_every_line_the_file_loads(folder):
    old, new, unfinished = run(EVERY, folder, 0)
    assert old > 100  # before the rename
    assert new > 5  # after it
    assert unfinished > 80
