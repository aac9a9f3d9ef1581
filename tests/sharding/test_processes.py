"""Runs of several processes, as on several hosts: steps, checkpoints, killed and resumed."""

import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.processes import environment

DEVICES = 4


def together(phase, count, folder, *names):
    """Runs the phase in so many processes, and returns how each of them ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.sharding.several", phase, str(count)]
    # Programs of several processes are in no cache: each would have to find the same in it.
    env = environment(DEVICES // count, cached=count == 1)
    running = [
        subprocess.Popen([*command, str(i), str(port), str(folder), *names], env=env)
        for i in range(count)
    ]
    try:
        return [process.wait(timeout=1200) for process in running]  # a busy machine is slow
    finally:
        for process in running:
            process.kill()
            process.wait()


def same(folder, a, b, *names):
    for name in names:
        one, other = (np.load(folder / f"{name}-{x}.npz") for x in (a, b))
        assert set(one) == set(other) == {"w", "v", "b"}
        for k in one:
            np.testing.assert_allclose(one[k], other[k], rtol=2e-6, atol=2e-6)


def test_two_processes_step_as_one_does(tmp_path):
    assert together("whole", 2, tmp_path, "adamw") == [0, 0]
    assert together("whole", 1, tmp_path, "adamw") == [0]
    same(tmp_path, "whole-2", "whole-1", "adamw")


@pytest.mark.slow
def test_four_are_killed_and_two_and_one_go_on(tmp_path):
    names = ["adamw", "muon", "accumulate", "skip", "soap"]
    assert together("first", 4, tmp_path) == [-signal.SIGKILL] * 4
    assert together("second", 2, tmp_path) == [0, 0]
    assert together("second", 1, tmp_path) == [0]
    assert together("whole", 1, tmp_path) == [0]
    for found in ("second-2", "second-1"):
        same(tmp_path, found, "whole-1", *names)


@pytest.mark.slow
def test_two_are_killed_and_four_go_on(tmp_path):
    assert together("first", 2, tmp_path) == [-signal.SIGKILL] * 2
    assert together("second", 4, tmp_path) == [0] * 4
    assert together("whole", 1, tmp_path) == [0]
    same(tmp_path, "second-4", "whole-1", "adamw", "muon", "accumulate", "skip", "soap")
