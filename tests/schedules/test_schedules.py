"""What holds for every schedule, and the schedules that torch lacks."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt import schedules as s
from tests.compositions import SCHEDULES

from .torch_runs import values

EACH = list(SCHEDULES)
each = pytest.mark.parametrize("schedule", EACH, ids=lambda x: repr(x)[15:50])


def test_every_public_schedule_is_here():
    made = {one._call.name for one in EACH}
    public = {n for n in dir(s) if getattr(getattr(s, n), "__module__", "").startswith("jopt")}
    # `step` and the like are also names of files; the functions have taken their place.
    assert made == {n for n in public if callable(getattr(s, n)) and n[0].islower()} - {"plateau"}


@each
def test_is_the_call_that_made_it(schedule):
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert repr(again) == repr(schedule)
    assert repr(schedule).startswith("jopt.schedules.")
    assert [one == schedule for one in EACH].count(True) == 1
    np.testing.assert_array_equal(values(again, 60), values(schedule, 60))


@each
def test_one_step_many_steps_and_compiled_steps_are_the_same(schedule):
    t = jnp.arange(60)
    many = schedule(t)
    assert many.shape == (60,)
    assert many.dtype == jnp.float32
    for fast in (jax.jit(schedule)(t), jax.vmap(schedule)(t)):
        np.testing.assert_allclose(fast, many, rtol=2e-6, atol=1e-9)
    few = [schedule(k) for k in (0, 9, 10, 59)]
    np.testing.assert_allclose(few, many[np.array([0, 9, 10, 59])], rtol=2e-6)
    np.testing.assert_array_equal(schedule(jnp.float32(7)), schedule(7))


@each
def test_a_step_below_zero_is_step_zero(schedule):
    np.testing.assert_array_equal(schedule(jnp.array([-1, -1000])), schedule(jnp.array([0, 0])))


LOOPS = {"multiplicative"}  # without a table: as many turns as steps
huge = [one for one in EACH if not (one._call.name in LOOPS and one.config["steps"] is None)]


@pytest.mark.parametrize("schedule", huge, ids=lambda x: repr(x)[15:50])
def test_late_steps_are_finite_and_within_bounds(schedule):
    late = np.asarray(schedule(jnp.array([2**24, 2**24 + 1, 2**31 - 1])))
    assert np.isfinite(late).all()
    top = (
        0.9
        if "cyclic_momentum" in repr(schedule)
        else 0.95
        if "momentum" in repr(schedule)
        else 0.2
    )
    assert (late >= 0).all()
    assert (late <= np.float32(top)).all()


@each
def test_drives_an_optimizer_and_is_float64_under_x64(schedule, x64):
    tx = jopt.sgd(schedule)
    params = {"w": jnp.float32(1.0)}
    state = tx.init(params)
    for k in range(3):
        rate = jopt.hyperparams(state)["sgd"]["default"]["learning_rate"]
        _, state = tx.update(params, state, params)
        assert rate.dtype == jnp.float64
        assert float(rate) == float(schedule(k))


def test_ends_are_exact():
    for anneal in ("linear", "cosine", "1-sqrt", "sqrt"):
        fall = s.wsd(0.3, 7, 11, 13, init_value=0.01, end_value=0.02, anneal=anneal)
        assert [fall(t) for t in (0, 7, 18, 31, 99)] == [
            np.float32(x) for x in (0.01, 0.3, 0.3, 0.02, 0.02)
        ]
    assert s.linear(0.1, 0.3, 7)(7) == np.float32(0.3)
    assert s.cosine(0.1, 7, end_value=0.03)(7) == np.float32(0.03)
    assert s.cosine_annealing(0.1, 7, 0.03)(14) == np.float32(0.1)


@pytest.mark.parametrize("anneal", ["linear", "cosine", "1-sqrt", "sqrt"])
def test_wsd_is_its_three_parts(anneal, x64):
    curve = {
        "linear": lambda x: 1 - x,
        "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
        "1-sqrt": lambda x: 1 - math.sqrt(x),
        "sqrt": lambda x: math.sqrt(1 - x),
    }[anneal]
    want = [0.02 + 0.08 * t / 10 for t in range(10)] + [0.1] * 30
    want += [0.01 + 0.09 * curve(t / 20) for t in range(20)] + [0.01] * 10
    got = values(s.wsd(0.1, 10, 30, 20, init_value=0.02, end_value=0.01, anneal=anneal), 70)
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_a_longer_stable_part_changes_nothing_before_the_decay():
    short, long = s.wsd(0.1, 10, 30, 20), s.wsd(0.1, 10, 300, 20)
    np.testing.assert_array_equal(values(short, 40), values(long, 40))


def test_inverse_sqrt_is_the_transformers(x64):
    d, w = 512, 400  # Vaswani et al., equation 3, at step t = 1, 2, ...
    want = [d**-0.5 * min(t**-0.5, t * w**-1.5) for t in range(1, 3000)]
    got = values(s.inverse_sqrt(d**-0.5 * w**-0.5, w), 3000)[1:]
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_inverse_sqrt_with_a_timescale(x64):
    got = s.inverse_sqrt(1.0, 10, timescale=100)
    np.testing.assert_allclose([got(10), got(110), got(310), got(810)], [1, 2**-0.5, 0.5, 1 / 3])


def test_restarts_are_where_they_should_be():
    rates = values(s.cosine_restarts(0.1, 3, 2), 2**12)
    peaks = np.flatnonzero(rates == np.float32(0.1)).tolist()
    assert peaks == [3 * (2**i - 1) for i in range(11)]


def test_edges_are_exact_as_far_as_float32_counts():
    edge = 2**24 - 3
    for one in (s.multistep(1.0, [edge], 0.5), s.step(1.0, edge, 0.5), s.join([1.0, 0.5], [edge])):
        assert [float(one(t)) for t in (edge - 1, edge)] == [1.0, 0.5]
    assert float(s.multistep(1.0, [2**24 + 2], 0.5)(2**24 + 2)) == 0.5


def test_edges_are_exact_beyond_that_under_x64(x64):
    edge = 2**31 + 1
    assert [float(s.multistep(1.0, [edge], 0.5)(t)) for t in (edge - 1, edge)] == [1.0, 0.5]
    assert [float(s.step(1.0, 3, 0.5)(t)) for t in (2, 3)] == [1.0, 0.5]


def test_a_power_keeps_its_digits_in_float32():
    t = jnp.array([1000, 10_000, 100_000])
    exact = [math.exp(int(k) * math.log(0.9999)) for k in t]
    np.testing.assert_allclose(s.exponential(1.0, 0.9999)(t), exact, rtol=1e-6)
    naive = jnp.float32(0.9999) ** t.astype(jnp.float32)
    assert abs(naive[2] / exact[2] - 1) > 1e-4


def test_another_librarys_schedule_fits():
    import optax

    theirs = optax.cosine_decay_schedule(0.1, 30)
    both = s.join([s.linear(0.0, 0.1, 10), theirs], [10])
    theirs_at = [theirs(float(t)) for t in range(40)]
    np.testing.assert_allclose(both(jnp.arange(10, 50)), theirs_at, rtol=1e-6, atol=1e-8)
    tx = optax.sgd(s.cosine(0.1, 30))
    grads = {"w": jnp.float32(1.0)}
    updates, _ = tx.update(grads, tx.init(grads))
    assert updates["w"] == -np.float32(0.1)
