"""A run that is killed while it saves: its folder has all that was done, and finds the newest."""

import json

import pytest

from tests.checkpoint.test_kills import CHILDREN, started
from tests.checkpoint.test_kills import folder as folder

COMMON = (
    CHILDREN
    + """
import json, os, pathlib, random, signal, sys, time
import numpy as np
import jopt
from jopt.checkpoint import files, kept, wire

folder, kills = sys.argv[1], int(sys.argv[2])
wire.STEP = files.BUFFER = 2**12  # many calls to write

def made(background):
    settings = {"keep_last": 2, "keep_best": 1, "background": background}
    return jopt.Checkpoints(folder, **settings)

def save(to, step, size, metric=None):
    to.save(step, {"step": step, "x": np.full(size, step, np.float32)}, metric=metric)

def resumed(size):
    found = made(False).resume({"step": 0, "x": np.zeros(size, np.float32)})
    assert not found.skipped, found
    assert (found.tree["x"] == found.tree["step"]).all() and found.tree["step"] == (found.step or 0)
    for kept in made(False).entries:
        assert jopt.load(kept.path)["step"] == kept.step
    return found.step or 0
"""
)

# What a child has saved for certain it says through a pipe: nothing of that may be lost.
RANDOM = """
rng, size, done, steps = random.Random(0), 20_000, 0, set()
save(made(False), 0, size)
each = taken(lambda: save(made(False), 0, size))
for kill in range(kills):
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        with made(True) as to:
            for step in range(resumed(size) + 1, 10**9):
                save(to, step, size, metric=1.0 / step if step % 5 else 0.0)
                os.write(told, b"%d " % (step - 1))  # `save` has waited for the one before
    os.close(told)
    words = os.read(heard, 2)
    dies(child, each)
    last = int((words + os.read(heard, 2**20)).split()[-1])
    os.close(heard)
    now = resumed(size)
    assert now >= last >= 0 and now >= done, (now, last, done)
    done = now
    steps.add(now)
    assert len(made(False).entries) <= 5, made(False).entries
print(len(steps), done)
"""

# The kill comes before the n-th line of what writes and removes.
EVERY = """
where = {f.__code__ for f in (made(False)._write, kept.write_index, kept.remove)}
size, n, seen = 500, 0, []

for step in (1, 2, 3):  # 1 is the best
    save(made(False), step, size, metric=float(step))
before = {path: path.read_bytes() for path in pathlib.Path(folder).iterdir()}

def fresh():
    for path in pathlib.Path(folder).iterdir():
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)

def killed_at(n):
    child = os.fork()
    if child == 0:
        left = n
        def count(frame, event, arg):
            nonlocal left
            if frame.f_code not in where:
                return None
            left -= event == "line"
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return count
        sys.settrace(count)
        save(made(False), 4, size, metric=4.0)
        os._exit(0)
    return killed(child)

while killed_at(n := n + 1):
    there = [(kept.step, kept.metric) for kept in made(False).entries]
    assert there[0] == (1, 1.0) and resumed(size) == there[-1][0], there
    assert [step for step, _ in there] in ([1, 2, 3], [1, 2, 3, 4], [1, 3, 4]), there
    if there not in seen:
        seen.append(there)
    save(made(False), 5, size, metric=5.0)  # whatever the kill has left
    assert [kept.step for kept in made(False).entries] == [1, there[-1][0], 5]
    fresh()
print(json.dumps(seen))
"""


def test_killed_at_random_moments_nothing_that_was_done_is_lost(folder):
    distinct, done = map(int, started(COMMON + RANDOM, folder, 40).split())
    assert distinct > 10
    assert done > 20


@pytest.mark.slow
def test_killed_a_thousand_times_nothing_that_was_done_is_lost(folder):
    distinct, _ = map(int, started(COMMON + RANDOM, folder, 1000).split())
    assert distinct > 250


def test_killed_at_every_line_the_folder_has_all_of_the_old_or_the_new(folder):
    best, second, third = [1, 1.0], [2, 2.0], [3, 3.0]
    assert json.loads(started(COMMON + EVERY, folder, 0)) == [
        [best, second, third],
        [best, second, third, [4, None]],  # the file is there, its metric not yet
        [best, second, third, [4, 4.0]],
        [best, third, [4, 4.0]],
    ]
