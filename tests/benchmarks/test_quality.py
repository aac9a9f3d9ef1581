"""The proof that small states are good enough: its command, its arithmetic, and its text."""

import json

import jax
import numpy as np
import pytest

from tests.benchmarks.quality import report, small_state
from tests.benchmarks.quality.text import library, text

SMALL = "bf16 params, stochastic, int8 state"


def row(losses, variant="int8 state"):
    return {"optimizer": "adamw", "variant": variant, "train": losses, "held_out": losses}


@pytest.fixture
def compiled_quickly():
    """Compiling is nearly all the time that a short training takes."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("compiled_quickly")
def test_the_command_prints_writes_and_draws(tmp_path, capsys):
    out, png = tmp_path / "out" / "quality.json", tmp_path / "quality.png"
    given = ["--task", "digits", "--steps", "30", "--width", "64", "--seeds", "2"]
    given += ["--optimizers", "sgd", "--variants", SMALL, "--json", str(out)]
    small_state.main([*given, "--picture", str(png)])
    printed = capsys.readouterr().out
    assert printed.startswith("digits: source sklearn.datasets.load_digits")
    assert f"| stored as | {' | '.join(report.HEADS[1:])} |" in printed
    assert png.read_bytes().startswith(b"\x89PNG")

    found = json.loads(out.read_text())
    assert found["data"]["images"] == 1797
    assert [r["variant"] for r in found["rows"]] == ["float32", SMALL]
    base, small = found["rows"]
    # Of the momentum, two kernels of 64·64 are held in 8 bits with a float32 scale a block of 256,
    # the rest in float32, beside a few scalars: hyperparameters and counts.
    numbers = 2 * 64 * 64 + 64 * 10 + 2 * 3 * 64 + 10
    assert base["parameters"] == small["parameters"] == numbers
    assert base["param_bytes"] == 4
    assert small["param_bytes"] == 2
    assert base["state_bytes"] == pytest.approx(4, abs=0.02)
    held = 2 * 64 * 64 * (1 + 4 / 256) + 4 * (numbers - 2 * 64 * 64)
    assert small["state_bytes"] == pytest.approx(held / numbers, abs=0.02)
    for r in found["rows"]:
        assert len(r["held_out"]) == len(r["train"]) == 2
        assert len(r["curve"]["mean"]) == small_state.POINTS
        # The batches' losses lie around that of a guess at first, whatever is stored.
        assert r["curve"]["mean"][0] == pytest.approx(base["curve"]["mean"][0], rel=0.02)

    # Nothing is left to run; what was found is told again.
    again = [*given, "--resume"]
    small_state.main(again)
    assert capsys.readouterr() == (printed, "")
    with pytest.raises(SystemExit, match="holds another run: choose another --json"):
        small_state.main([*again, "--seeds", "3"])


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([0.9, 1.0, 1.3], "yes"),
        ([1.2, 1.0, 1.3], "no: above"),
        ([0.5, 0.9, 0.6], "no: below, which is better"),
        ([1.0, float("nan"), 1.0], "no: not finite"),
    ],
)
def test_the_spread_is_from_the_least_to_the_greatest_of_float32(losses, verdict):
    assert report.summary(row(losses), row([0.9, 1.0, 1.1]))["held_out"]["verdict"] == verdict


def test_the_summary_is_of_the_same_seeds():
    base, other = [1.0, 2.0, 4.0], [1.5, 2.0, 3.5]
    found = report.summary(row(other), row(base))["train"]
    assert found["mean"] == np.mean(other)
    assert found["deviation"] == np.std(other, ddof=1)
    assert (found["least"], found["most"]) == (1.5, 3.5)
    assert (found["gap"], found["gap_deviation"]) == (0.0, 0.5)


def test_the_text_is_the_same_every_time():
    raw, files = library(10_000)
    assert len(raw) == 10_000
    assert max(raw) < 128
    assert files < library(100_000)[1]
    assert library(20_000)[0].startswith(raw)
    # Labels are the characters that follow; what is held out is no part of what is learnt from.
    task = text(steps=30, width=16, layers=1, windows=4)
    inputs, labels = task.held_out
    assert inputs.shape == labels.shape == (1, 4, 64)
    assert np.array_equal(inputs[..., 1:], labels[..., :-1])
    whole, _ = library()
    learnt, held_out = whole[:1_800_000], whole[1_800_000:]
    assert bytes(np.asarray(task.learnt[0][0, -1], np.uint8)) in learnt[-65:]
    assert bytes(np.asarray(inputs[0, 0], np.uint8)) == held_out[:64]


def test_what_it_does_not_know_is_refused(capsys):
    with pytest.raises(SystemExit):
        small_state.main(["--variants", "int4 state"])
    assert "no such name: int4 state; there are float32; bfloat16" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        small_state.main(["--steps", "31"])
    assert "--seeds must be at least 1, --steps a multiple of 30" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        small_state.main(["--task", "text", "--optimizers", "sgd"])
    assert "--optimizers: text is trained with adamw" in capsys.readouterr().err
