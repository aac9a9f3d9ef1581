"""Reduce-on-plateau: torch's numbers above zero, the right ones below, a memory that is data."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import jopt
from jopt.interop.torch import scheduler
from jopt.schedules import plateau

from .torch_runs import sgd

INF, NAN = math.inf, math.nan


def torch_run(metrics, lr=0.1, **kwargs):
    """The rate each step used, the metric of step k being given after step k."""
    optimizer = sgd(lr)
    driver = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **kwargs)
    used = []
    for metric in metrics:
        used.append(optimizer.param_groups[0]["lr"])
        driver.step(metric)
    return used, driver


def scan(schedule, metrics):
    def one(memory, metric):
        used, memory = schedule.update(memory, value=metric)
        return memory, used

    memory, used = jax.lax.scan(one, schedule.init(), metrics)
    return used, memory


def run(schedule, metrics):
    used, memory = jax.jit(lambda m: scan(schedule, m))(jnp.asarray(metrics))
    return np.asarray(used).tolist(), memory


# XLA flushes numbers below 1e-308 to zero on a CPU: metrics are drawn from above them.
ANY = st.floats(1e-300, 3.0) | st.sampled_from([0.0, 1.0, 0.9, 1.0 - 1e-4, INF, NAN])
SETTINGS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.sampled_from([0.0, 0.1, 0.5, 0.9]),
        "patience": st.integers(0, 4),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1, 1.0, 1.5]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 4),
        "min_lr": st.sampled_from([0.0, 0.01, 0.2]),
        "eps": st.sampled_from([1e-8, 0.0, 0.02]),
    }
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data(), kwargs=SETTINGS)
def test_follows_torch_to_the_bit(data, kwargs):
    series = [data.draw(st.lists(ANY, min_size=40, max_size=40)) for _ in range(4)]
    with jax.enable_x64(True):
        schedule = scheduler("ReduceLROnPlateau", 0.1, **kwargs)
        used, memory = jax.jit(jax.vmap(lambda m: scan(schedule, m)))(np.array(series))
    for k, metrics in enumerate(series):
        want, driver = torch_run(metrics, **kwargs)
        assert used[k].tolist() == want
        assert float(memory["best"][k]) == driver.best
        assert int(memory["bad"][k]) == driver.num_bad_epochs
        assert int(memory["cooldown"][k]) == driver.cooldown_counter


def test_follows_torch_over_ten_thousand_steps(x64):
    noise = np.random.default_rng(0).normal(size=10_000)
    metrics = 5 * np.exp(-np.arange(10_000) / 800) + 1 + 0.1 * noise
    kwargs = {"patience": 100, "cooldown": 50, "factor": 0.7, "threshold": 1e-3}
    want, driver = torch_run(metrics, **kwargs)
    got, memory = run(scheduler("ReduceLROnPlateau", 0.1, **kwargs), metrics)
    assert len(set(want)) > 10
    assert got == want
    assert float(memory["best"]) == driver.best


def reference(metrics, mode, threshold, patience, factor):
    """The definition in plain Python: better by more than a share of |best|."""
    lr, best, bad, used = 1.0, INF if mode == "min" else -INF, 0, []
    for m in metrics:
        used.append(lr)
        gain = (best - m) if mode == "min" else (m - best)
        if gain > (0.0 if math.isinf(best) else threshold * abs(best)):
            best, bad = m, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = lr * factor, 0
    return used


# Whole metrics and a threshold of 1/8: every product is exact, so no bound is a matter of rounding.
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [0, 2])
def test_a_relative_threshold_is_right_below_zero(mode, patience, x64):
    rule = {"mode": mode, "threshold": 0.125, "patience": patience, "factor": 0.5}
    series = np.random.default_rng(0).integers(-40, 41, (60, 30)).astype(float)
    series[0] = -8.0
    schedule = plateau(1.0, eps=0.0, **rule)
    used, _ = jax.jit(jax.vmap(lambda m: scan(schedule, m)))(series)
    for got, metrics in zip(used, series, strict=True):
        assert got.tolist() == reference(metrics, **rule)


def test_torch_takes_an_equal_negative_metric_for_a_better_one():
    flat = [-1.0] * 10
    assert set(torch_run(flat, patience=2)[0]) == {0.1}
    ours, _ = run(plateau(1.0, patience=2, factor=0.5), np.float32(flat))
    assert ours == [1.0] * 4 + [0.5] * 3 + [0.25] * 3


def test_every_takes_the_mean_of_a_window():
    metrics = np.float32([3, 1, 2, 2, 4, 0, 0.5, 0.5])  # windows of two: 2, 2, 2, 0.5
    used, memory = run(plateau(1.0, factor=0.5, patience=0, every=2), metrics)
    assert used == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert float(memory["best"]) == 0.5
    assert int(memory["seen"]) == 0


def test_skipped_steps_have_no_metric():
    metrics = np.float32([NAN, 3, NAN, NAN, 3, NAN, 3, NAN])
    used, _ = run(plateau(1.0, factor=0.5, patience=0, nan="skip"), metrics)
    assert used == [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    used, _ = run(plateau(1.0, factor=0.5, patience=0, nan="skip", every=2), metrics)
    assert used == [1.0] * 8  # the mean of the first two, and one left over


def test_a_memory_keeps_its_types_and_its_program():
    schedule = plateau(1.0)
    before = schedule.init()
    traced = []

    @jax.jit
    def step(memory, metric):
        traced.append(1)
        return schedule.update(memory, value=metric)[1]

    after = step(step(before, 1.0), 2.0)
    assert jax.tree.map(lambda x: (x.dtype, x.shape), after) == jax.tree.map(
        lambda x: (x.dtype, x.shape), before
    )
    assert len(traced) == 1


def test_runs_of_several_metrics_side_by_side():
    schedule, metrics = plateau(1.0, factor=0.5, patience=0), np.float32([[3, 2, 1], [3, 3, 3]])

    used, _ = jax.vmap(lambda m: scan(schedule, m))(metrics)
    assert used.tolist() == [[1.0, 1.0, 1.0], [1.0, 1.0, 0.5]]


PARAMS, GRADS = {"w": jnp.float32(1.0)}, {"w": jnp.float32(1.0)}


def rate(state):
    return float(jopt.hyperparams(state)["sgd"]["default"]["learning_rate"])


def test_the_memory_lives_in_the_state_of_the_optimizer():
    tx = jopt.sgd(plateau(1.0, factor=0.5, patience=0))
    state = tx.init(PARAMS)
    assert sorted(state["sgd"]["schedules"]["default"]["learning_rate"]) == [
        "bad",
        "best",
        "cooldown",
        "reduce",
        "seen",
        "total",
        "value",
    ]
    steps = []
    for loss in (1.0, 1.0, 1.0):
        updates, state = jax.jit(tx.update)(GRADS, state, PARAMS, value=loss)
        steps.append(float(updates["w"]))
    assert steps == [-1.0, -1.0, -0.5]
    # The third metric is no better, and the number is already what the next step uses.
    assert rate(state) == 0.25


def test_an_edit_stays_and_later_reductions_act_on_it():
    tx = jopt.sgd(plateau(1.0, factor=0.5, patience=1))
    state = tx.init(PARAMS)
    used = []
    for k, loss in enumerate((1.0, 1.0, 1.0, 1.0, 1.0, 1.0)):
        if k == 2:
            state = jopt.set_hyperparams(state, learning_rate=8.0)
        used.append(rate(state))
        _, state = tx.update(GRADS, state, PARAMS, value=loss)
    optimizer = sgd(1.0)
    driver = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    want = []
    for k in range(6):
        if k == 2:
            optimizer.param_groups[0]["lr"] = 8.0
        want.append(optimizer.param_groups[0]["lr"])
        driver.step(1.0)
    assert used == want == [1.0, 1.0, 8.0, 4.0, 4.0, 2.0]


def test_a_group_and_another_number_may_have_plateaus_of_their_own():
    tx = jopt.sgd(
        plateau(1.0, factor=0.5, patience=0),
        momentum=plateau(0.9, factor=0.5, patience=0, mode="max"),
        groups={"b": jopt.group("^b$", learning_rate=plateau(4.0, factor=0.25, patience=0))},
    )
    params = {"a": jnp.float32(0.0), "b": jnp.float32(0.0)}
    state = tx.init(params)
    for loss in (1.0, 2.0, 3.0):
        _, state = tx.update(params, state, params, value=loss)
    numbers = jopt.hyperparams(state)["sgd"]
    assert float(numbers["default"]["learning_rate"]) == 0.25
    assert float(numbers["b"]["learning_rate"]) == 0.25
    assert float(numbers["b"]["momentum"]) == np.float32(0.9)


def test_prints_compares_and_pickles_as_its_call():
    one = plateau(0.1, patience=3)
    assert repr(one) == "jopt.schedules.plateau(init_value=0.1, patience=3)"
    assert one == plateau(0.1, factor=0.1, patience=3) == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(plateau(0.1, patience=3))
    assert one != plateau(0.1, patience=4)


def test_an_update_says_that_it_needs_the_metric():
    tx = jopt.sgd(plateau(1.0))
    with pytest.raises(jopt.ConfigError, match="sgd: update needs value="):
        tx.update(GRADS, tx.init(PARAMS), PARAMS)
    with pytest.raises(jopt.ConfigError, match=r"plateau: the metric is no number\n.*\n.*\(2,\)"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, value=jnp.ones(2))


def test_another_length_takes_over_with_the_mean_of_what_is_there():
    long, short = (jopt.schedules.plateau(1.0, every=n) for n in (5, 2))
    memory = long.init()
    for metric in (1.0, 2.0, 6.0):
        _, memory = long.update(memory, value=metric)
    _, memory = short.update(memory, value=7.0)
    assert (float(memory["best"]), int(memory["seen"])) == (4.0, 0)
