"""Killed at any moment and started again, the digits run ends as if nothing had happened."""

import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from flax.serialization import msgpack_restore

import jopt
from jopt.core.nested import flatten_dict
from tests.examples.runs import DIGITS, finish, start, succeed

OPTIONS = ("--epochs", 4, "--seed", 3)
STEPS = 44  # in an epoch
KILLED = Path(__file__).with_name("killed.py")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(DIGITS, *OPTIONS, "--out", folder)
    return folder


def epochs_done(folder):
    """How many epochs the checkpoint holds; it must be whole whenever it is there."""
    path = folder / "run.msgpack"
    return jopt.load(path)["epoch"] if path.exists() else 0


def assert_same_run(folder, expected):
    """Every number bit-equal, and then every byte of the file."""
    got, want = ((f / "run.msgpack").read_bytes() for f in (folder, expected))
    leaves, others = (flatten_dict(msgpack_restore(data)["tree"]) for data in (got, want))
    assert leaves.keys() == others.keys()
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, others[path], err_msg="/".join(path), strict=True)
    assert len([path for path in leaves if path[0] == "params"]) == 10
    assert got == want


MOMENTS = [
    (f"step:{STEPS // 2}", 0),  # before the first checkpoint
    ("open:1", 0),
    ("write:1", 0),
    ("rename:1", 0),
    (f"step:{STEPS + 1}", 1),  # the first step after a checkpoint
    ("write:1", 1),  # over an older checkpoint
    ("rename:2", 2),
    (f"step:{2 * STEPS}", 3),  # the last step of all
]


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(MOMENTS, marks=pytest.mark.slow, id="all"),
        pytest.param([("rename:4", 3)], id="one"),
    ],
)
def test_killed_at_chosen_moments(undisturbed, tmp_path, moments):
    # One run, killed at each moment in turn and started again; then the epochs that it kept.
    for moment, kept in moments:
        status, _, _ = finish(KILLED, moment, DIGITS, *OPTIONS, "--out", tmp_path)
        assert -status == (signal.SIGXFSZ if "write" in moment else signal.SIGKILL), moment
        assert epochs_done(tmp_path) == kept, moment
    out = succeed(DIGITS, *OPTIONS, "--out", tmp_path)
    assert out.startswith(f"Going on from {tmp_path / 'run.msgpack'}: 3 of 4 epochs are done.")
    assert_same_run(tmp_path, undisturbed)
    assert {path.name for path in tmp_path.iterdir()} == {"run.msgpack", "training.png"}


@pytest.mark.slow
def test_killed_at_random_times(undisturbed, tmp_path):
    draw = random.Random(0)
    began = time.monotonic()
    succeed(DIGITS, *OPTIONS, "--out", tmp_path / "timed")
    whole = time.monotonic() - began
    for _ in range(4):
        process = start(DIGITS, *OPTIONS, "--out", tmp_path)
        time.sleep(draw.uniform(0.4, 1.0) * whole)
        process.kill()
        process.communicate()
        epochs_done(tmp_path)  # reads and verifies it
    succeed(DIGITS, *OPTIONS, "--out", tmp_path)
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(undisturbed, tmp_path):
    data = (undisturbed / "run.msgpack").read_bytes()
    (tmp_path / "run.msgpack").write_bytes(data)
    out = succeed(DIGITS, *OPTIONS, "--out", tmp_path)
    assert "4 of 4 epochs are done" in out
    assert (tmp_path / "run.msgpack").read_bytes() == data
    assert (tmp_path / "training.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_run_with_other_options_is_not_continued(undisturbed):
    path = undisturbed / "run.msgpack"
    status, _, err = finish(DIGITS, "--epochs", 5, "--seed", 3, "--out", undisturbed)
    assert status == 1
    assert err == (
        f"{path} holds a run with --batch-size 32 --epochs 4 --learning-rate 0.003 --seed 3\n"
        "Repeat it, or choose another --out.\n"
    )


def test_a_flipped_bit_is_reported(undisturbed, tmp_path):
    path = tmp_path / "run.msgpack"
    data = bytearray((undisturbed / "run.msgpack").read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    status, out, err = finish(DIGITS, *OPTIONS, "--out", tmp_path)
    assert (status, out) == (1, "")
    assert err.startswith(f"load({str(path)!r}): the checkpoint is damaged")
    assert "Traceback" not in err
    assert err.endswith(f"Remove {path} to start anew.\n")
