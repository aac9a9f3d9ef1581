"""Schedules that torch lacks: optax's live where it has them, plain loops elsewhere."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt import schedules as s
from jopt.interop.torch import export_scheduler, scheduler
from jopt.interop.torch.schedulers.names import named

T = np.arange(60)
MARKS = {6: 0.5, 11: 0.1, 30: 3.0}
REACHED = [0.4 * 0.5, 0.4 * 0.05, 0.4 * 0.15]
CYCLES = [
    {"init_value": 0.1, "peak_value": p, "warmup_steps": 3, "decay_steps": n, "end_value": 0.05}
    for p, n in ((1.0, 10), (0.5, 25))
]

SAME = {
    "exponential": (
        s.exponential(0.3, 0.7, steps=7, begin=5),
        optax.exponential_decay(0.3, 7, 0.7, 5),
    ),
    "stairs": (
        s.exponential(0.3, 0.7, steps=7, staircase=True, begin=5, end_value=0.1),
        optax.exponential_decay(0.3, 7, 0.7, 5, True, 0.1),
    ),
    "up": (
        s.exponential(0.3, 1.3, steps=7, end_value=1.0),
        optax.exponential_decay(0.3, 7, 1.3, end_value=1.0),
    ),
    "warm up": (
        s.warmup(s.exponential(0.3, 0.7, steps=4), 9, init_value=0.1),
        optax.warmup_exponential_decay_schedule(0.1, 0.3, 9, 4, 0.7),
    ),
    "warmup_constant": (
        s.warmup_constant(0.3, 9, init_value=0.1),
        optax.warmup_constant_schedule(0.1, 0.3, 9),
    ),
    "linear": (
        s.piecewise(0.4, [*MARKS], REACHED),
        optax.piecewise_interpolate_schedule("linear", 0.4, MARKS),
    ),
    "cosine": (
        s.piecewise(0.4, [*MARKS], REACHED, anneal="cosine"),
        optax.piecewise_interpolate_schedule("cosine", 0.4, MARKS),
    ),
    "constant": (
        s.piecewise(0.4, [*MARKS], REACHED, anneal="constant"),
        optax.piecewise_constant_schedule(0.4, MARKS),
    ),
    "sgdr": (
        s.sgdr([1.0, 0.5], [10, 25], warmup_steps=3, init_value=0.1, end_value=0.05),
        optax.sgdr_schedule(CYCLES),
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SAME)
def test_the_same_as_optax(name):
    mine, other = SAME[name]
    with jax.numpy_dtype_promotion("standard"):
        expected = [float(other(t)) for t in T]
    np.testing.assert_allclose(mine(T), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_wsd_in_cycles_is_a_loop():
    def value(t):
        if t < 5:
            return 0.2 * t / 5
        past = t - 5
        done = min(past // 12, 2)
        past -= 12 * done
        if past < 8:
            return 0.2
        return 0.01 + 0.19 * math.sqrt(1 - min((past - 8) / 4, 1))

    got = s.wsd(0.2, 5, 8, 4, end_value=0.01, anneal="sqrt", cycles=3)(T)
    np.testing.assert_allclose(got, [value(int(t)) for t in T], rtol=1e-12)
    assert float(s.wsd(0.2, 0, 8, 4, cycles=2)(12)) == 0.2
    with pytest.raises(jopt.ConfigError, match="cycles is a number"):
        s.wsd(0.2, 5, 8, 4, cycles=0)


@pytest.mark.usefixtures("x64")
def test_stretched_has_its_edges_where_they_are():
    percent = s.piecewise(1.0, [10, 80], [0.5, 0.1], anneal="constant")
    for total in (7, 100, 1_000, 12_345):
        t = np.arange(total + 1)
        got = s.stretched(percent, 100, total)(t)
        expected = np.where(t * 100 < 10 * total, 1.0, np.where(t * 100 < 80 * total, 0.5, 0.1))
        np.testing.assert_array_equal(got, expected)


def test_stairs_are_those_of_step():
    stairs = s.exponential(1.0, 0.9, steps=3, staircase=True)
    np.testing.assert_array_equal(stairs(np.arange(3000)), s.step(1.0, 3, 0.9)(np.arange(3000)))


def test_exponential_in_torchs_names():
    name, base, kwargs = export_name(s.exponential(0.3, 0.7, steps=7))
    np.testing.assert_allclose(scheduler(name, base, **kwargs)(T), SAME_TORCH(T), rtol=1e-5)
    assert export_name(s.exponential(0.3, 0.7, steps=7, staircase=True))[0] == "StepLR"
    for more in ({"begin": 3}, {"end_value": 0.1}):
        with pytest.raises(jopt.JoptError, match="neither waits nor stops"):
            export_scheduler(s.exponential(0.3, 0.7, **more), 2)


SAME_TORCH = s.exponential(0.3, 0.7, steps=7)


def export_name(schedule):
    found = named(schedule)
    return found.name, found.base, found.arguments


WRONG = [
    (lambda: s.piecewise(1.0, [3], [1.0, 2.0]), "one for each"),
    (lambda: s.piecewise(1.0, [3, 3], [1.0, 2.0]), "one for each"),
    (lambda: s.piecewise(1.0, 3, [1.0]), "boundaries is no row"),
    (lambda: s.piecewise(1.0, [3], [1.0], anneal="x"), "no such anneal"),
    (lambda: s.piecewise(1.0, [3], ["a"]), "is not a number"),
    (lambda: s.sgdr([1.0], [3, 4]), "a peak and a length"),
    (lambda: s.sgdr([], []), "is no row"),
    (lambda: s.sgdr([1.0], [3], warmup_steps=3), "warm-up does not end"),
    (lambda: s.exponential(1.0, -0.5, steps=2), "has no roots"),
    (lambda: s.stretched(s.plateau(1.0), 3, 4), "a schedule with a memory"),
]


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_what_is_wrong_is_told(make, text):
    with pytest.raises(jopt.ConfigError, match=text):
        make()


def test_a_traced_gamma_stops_on_its_side():
    found = jax.jit(lambda g: s.exponential(1.0, g, end_value=0.5)(jnp.array([0, 1, 5])))
    assert found(0.6).tolist() == pytest.approx([1.0, 0.6, 0.5])
