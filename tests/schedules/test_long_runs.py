"""Schedules over more steps than an int32 counts, against their formulas in float64."""

import jax
import numpy as np
import pytest

from jopt import schedules as s
from jopt.interop.torch import huggingface_schedule


def down(x):
    return (1 + np.cos(np.pi * np.clip(x, 0, 1))) / 2


def line(a, b, x):
    x = np.clip(x, 0, 1)
    return a * (1 - x) + b * x


def restarts(x):
    """One period is 1, the next 2, then 4: the third begins at 3."""
    begun = np.floor(np.log2(x + 1))
    return down((x + 1 - 2**begun) / 2**begun)


# Each by N steps, and its value at the part x of them.
CASES = {
    "linear": (lambda n: s.linear(1.0, 0.1, n), lambda x: line(1, 0.1, x)),
    "cosine": (lambda n: s.cosine(1.0, n), down),
    "annealing": (lambda n: s.cosine_annealing(1.0, n), lambda x: (1 + np.cos(np.pi * x)) / 2),
    "restarts": (lambda n: s.cosine_restarts(1.0, n, 2), restarts),
    "even": (lambda n: s.cosine_restarts(1.0, n), lambda x: down(x % 1)),
    "warm": (lambda n: s.warmup_cosine(1.0, n, 2 * n), lambda x: np.where(x < 1, x, down(x - 1))),
    "polynomial": (lambda n: s.polynomial(1.0, n, 2.0), lambda x: np.clip(1 - x, 0, 1) ** 2),
    "step": (lambda n: s.step(1.0, n, 0.5), lambda x: 0.5 ** np.floor(x)),
    "marks": (
        lambda n: s.multistep(1.0, [n, 2 * n], 0.5),
        lambda x: 0.5 ** ((x >= 1) * 1 + (x >= 2)),
    ),
    "factor": (lambda n: s.constant_factor(1.0, 0.5, n), lambda x: np.where(x < 1, 0.5, 1)),
    "cyclic": (lambda n: s.cyclic(0.0, 1.0, n), lambda x: 1 - np.abs(1 - x % 2)),
    "join": (lambda n: s.join([1.0, s.linear(1.0, 0.0, n)], [n]), lambda x: line(1, 0, x - 1)),
    "warmup": (lambda n: s.warmup(2.0, n), lambda x: line(0, 2, x)),
    "inverse_sqrt": (
        lambda n: s.inverse_sqrt(1.0, n),
        lambda x: np.where(x < 1, x, 1 / np.sqrt(np.maximum(x, 1))),
    ),
    "wsd": (lambda n: s.wsd(1.0, n, n, n), lambda x: np.where(x < 1, x, line(1, 0, x - 2))),
    "swa": (lambda n: s.swa(1.0, 0.5, n, start=n), lambda x: 0.5 + 0.5 * down(x - 1)),
    "onecycle": (
        lambda n: s.onecycle(1.0, n, pct_start=0.5),
        lambda x: np.where(
            x < 0.5, 0.04 + 0.96 * (1 - down(2 * x)), 4e-6 + (1 - 4e-6) * down(2 * x - 1)
        ),
    ),
    "trainer": (
        lambda n: huggingface_schedule("linear", 1.0, n, 2 * n),
        lambda x: np.where(x < 1, x, line(1, 0, x - 1)),
    ),
}
PARTS = np.asarray([0.0, 0.25, 0.5, 0.875, 1.0, 1.5, 1.75, 2.0, 2.5, 2.875])


@pytest.mark.parametrize("steps", [3 * 10**9, 3 * 2**40, 10**30])
@pytest.mark.parametrize("name", CASES)
def test_right_to_the_rounding_of_float32(name, steps):
    made, formula = CASES[name]
    schedule = made(steps)
    at = [int(x * 1000) * steps // 1000 for x in PARTS]
    expected = formula(np.asarray([t / steps for t in at]))
    close = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose([float(schedule(t)) for t in at[::3]], expected[::3], **close)
    np.testing.assert_allclose(schedule(at), expected, **close)
    traced = jax.jit(schedule)(np.asarray(at, np.float32))
    np.testing.assert_allclose(traced, expected, **close)


def test_long_counts_of_the_host_are_not_cut():
    at = np.asarray([0, 2**31, 3 * 2**32], np.int64)
    found = s.linear(0.0, 1.0, 3 * 2**32)(at)
    np.testing.assert_allclose(found, [0, 1 / 6, 1], rtol=1e-6)
    assert float(s.table([1.0, 0.5])(10**12)) == 0.5
    assert s.linear(1.0, 0.0, 3 * 10**9).config["steps"] == 3 * 10**9


def test_large_values_and_patience():
    assert float(s.linear(0, 6 * 10**9, 4)(2)) == 3e9
    assert float(s.join([3 * 10**9, 1], [2])(0)) == 3e9
    plateau = s.plateau(1.0, patience=10**12, cooldown=10**12, every=10**12)
    now, _ = plateau.update(plateau.init(), value=1.0)
    assert float(now) == 1.0


def test_a_warm_up_of_no_steps():
    np.testing.assert_allclose(
        s.warmup_cosine(1.0, 0, 8, end_value=0.1)(list(range(10))),
        s.cosine(1.0, 8, end_value=0.1)(list(range(10))),
    )
