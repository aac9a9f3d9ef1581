"""A fork during a save: the child holds no lock, and neither writes nor takes away anything."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import jopt
from tests.checkpoint.helpers import assert_same

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

FORKER = """
import os, signal, sys, threading, warnings
from jopt.checkpoint import files

warnings.simplefilter("ignore")  # newer Pythons warn of threads at a fork
path, ending = sys.argv[1:]
begun, go = threading.Event(), threading.Event()

def write(file):
    file.write(b"x" * 1000)  # buffered: a child that flushed it would write it twice
    begun.set()
    go.wait()

thread = threading.Thread(target=files.replace, args=("save", path, write))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    if ending == "stays":
        print(os.getpid(), flush=True)
        signal.pause()
    os._exit(0) if ending == "quick" else sys.exit(0)
if ending != "stays":
    os.waitpid(child, 0)
    go.set()
    thread.join()
else:
    signal.pause()
"""

INSIDE = """
import os, sys
from jopt.checkpoint import files

def write(file):
    file.write(b"x" * 1000)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    elif sys.argv[2] == "exits":
        sys.exit(0)

try:
    files.replace("save", sys.argv[1], write)
except files.CheckpointError as error:
    os._exit(0)  # the child's
"""


def run(script, *words):
    return subprocess.run([sys.executable, "-c", script, *map(str, words)], check=True, timeout=120)


@pytest.mark.parametrize("ending", ["quick", "orderly"])
def test_a_child_that_ends_leaves_the_save_alone(tmp_path, ending):
    path = tmp_path / "run.jopt"
    run(FORKER, path, ending)
    assert path.read_bytes() == b"x" * 1000
    assert os.listdir(tmp_path) == ["run.jopt"]


@pytest.mark.parametrize("ending", ["exits", "goes on"])
def test_a_fork_within_the_save(tmp_path, ending):
    path = tmp_path / "run.jopt"
    run(INSIDE, path, ending)
    assert path.read_bytes() == b"x" * 1000
    assert os.listdir(tmp_path) == ["run.jopt"]


def test_a_child_that_outlives_a_killed_save_holds_no_lock(tmp_path):
    path, tree = tmp_path / "run.jopt", {"x": np.ones(3), "step": 2}
    command = [sys.executable, "-c", FORKER, str(path), "stays"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            assert os.listdir(tmp_path) == [".jopt-run.jopt.tmp"]
            jopt.save(path, tree)
            assert_same(jopt.load(path), tree)
            assert os.listdir(tmp_path) == ["run.jopt"]
        finally:
            os.kill(child, signal.SIGKILL)
