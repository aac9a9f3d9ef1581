"""The main job as the README starts it: what it reaches, shows and leaves behind."""

import re
import struct

import numpy as np
import pytest

import jopt
from tests.examples.runs import DIGITS, finish, succeed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with the default options: its output, and the folder it wrote to."""
    cwd = tmp_path_factory.mktemp("digits")
    return succeed(DIGITS, cwd=cwd), cwd / "out" / "digits"


def test_it_recognizes_held_out_digits(run):
    out, folder = run
    right = float(re.search(r"^Held-out accuracy ([\d.]+)%\.$", out, re.MULTILINE)[1])
    assert right >= 97
    history = jopt.load(folder / "run.msgpack")["history"]
    assert f"{history['accuracy'][-1]:.2%}" == f"{right:.2f}%"


def test_output_that_is_no_terminal_has_a_line_for_each_epoch_and_no_escapes(run):
    out, _ = run
    assert "\x1b" not in out
    assert "\r" not in out
    lines = re.findall(r"^epoch +(\d+)   loss \d+\.\d{4}   held-out accuracy", out, re.MULTILINE)
    assert lines == [str(epoch) for epoch in range(1, 21)]
    assert re.search(r"^training .* 880/880 loss \d\.\d{4} learning rate \d\.\d\de", out, re.M)


def test_the_rates_it_recorded_are_the_schedule(run):
    _, folder = run
    rates = jopt.load(folder / "run.msgpack")["history"]["learning_rate"]
    schedule = jopt.schedules.warmup_cosine(3e-3, 88, 880)
    np.testing.assert_allclose(rates, schedule(np.arange(880)), rtol=1e-6, atol=1e-10)


def test_its_checkpoint_holds_everything(run):
    _, folder = run
    saved = jopt.load(folder / "run.msgpack")
    assert saved["epoch"] == 20
    assert saved["settings"] == {
        "batch_size": 32, "epochs": 20, "learning_rate": 3e-3, "seed": 0
    }  # fmt: skip
    adamw = saved["state"]["adamw"]
    assert adamw["count"] == 880
    assert adamw["hyperparams"]["no_decay"] == {"weight_decay": 0}
    assert not np.isnan(saved["history"]["loss"]).any()
    names = {"conv1", "norm1", "conv2", "norm2", "head"}
    assert names == set(saved["params"]) == set(adamw["mu"]) == set(adamw["nu"])


def test_its_picture_is_a_png_of_the_right_shape(run):
    data = (run[1] / "training.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 1000
    assert 2 < width / height < 4
    assert len(data) < 150_000


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "1500"], "--batch-size: there are only 1437 images to train on"),
        slow(["--epochs", "0"], "argument --epochs: 0 is less than 1"),
        slow(["--seed", "-1"], "argument --seed: -1 is less than 0"),
        slow(["--learning-rate", "fast"], "argument --learning-rate: invalid float value: 'fast'"),
    ],
)
def test_a_wrong_option_is_named(options, message, tmp_path):
    status, out, err = finish(DIGITS, *options, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.endswith(f"error: {message}\n")
