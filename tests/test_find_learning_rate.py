"""The range test against a plain loop in float64, and its picture."""

import math

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import jopt

mpl.use("agg")
from matplotlib import pyplot as plt

CURVES = np.array([1.0, 4.0, 9.0])
BATCHES = jnp.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def loss(w, batch):
    return 0.5 * jnp.sum(jnp.asarray(CURVES, w.dtype) * (w - batch.astype(w.dtype)) ** 2) + 1.0


class Loader:
    """What gives batches again and again, as loaders do."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def by_hand(rates, smoothing, stop):
    """SGD on the same loss, as the docstring has it."""
    w, m, best, rows = np.zeros(3), 0.0, math.inf, []
    for t, rate in enumerate(rates):
        off = w - np.asarray(BATCHES, float)[t % 2]
        f = 0.5 * (CURVES * off**2).sum() + 1.0
        m = smoothing * m + (1 - smoothing) * f
        s = m / (1 - smoothing ** (t + 1))
        rows.append((f, s))
        if s > stop * best:
            return np.array(rows), True
        best, w = min(best, s), w - rate * CURVES * off
    return np.array(rows), False


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("high", "smoothing"), [(10.0, 0.5), (1e-2, 0.9)])
def test_it_is_a_run_with_growing_rates(high, smoothing):
    rates = np.geomspace(1e-4, high, 40)
    rows, exploded = by_hand(rates, smoothing, 3.0)
    tx = jopt.sgd(1e-3)
    found = jopt.find_learning_rate(
        tx,
        loss,
        jnp.zeros(3),
        BATCHES,
        low=1e-4,
        high=high,
        steps=40,
        smoothing=smoothing,
        stop=3.0,
    )
    assert found.exploded == exploded == (high > 1)
    np.testing.assert_allclose(found.rates, rates[: len(rows)], rtol=1e-12)
    np.testing.assert_allclose(found.losses, rows[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found.smoothed, rows[:, 1], rtol=1e-9)
    best = int(np.argmin(rows[:, 1]))
    slopes = np.gradient(rows[:, 1], np.log(rates[: len(rows)]))[: best + 1]
    assert found.lowest == pytest.approx(rates[best])
    assert found.steepest == pytest.approx(rates[int(np.argmin(slopes))])
    assert found.suggestion == min(found.steepest, found.lowest / 10)


def test_groups_follow_by_their_factor_and_one_of_several_optimizers_is_meant():
    fast = {"fast": jopt.group("^b$", learning_rate=jopt.times(2.0))}
    params = {"a": jnp.float32(0.0), "b": jnp.float32(0.0)}

    def fall(p):
        return -p["a"] - 10 * p["b"] + 100.0

    found = jopt.find_learning_rate(
        jopt.sgd(1.0, groups=fast), fall, params, low=0.1, high=0.2, steps=2
    )
    np.testing.assert_allclose(found.losses, [100.0, 100.0 - 0.1 - 10 * 2 * 10 * 0.1], rtol=1e-6)
    two = jopt.route(jopt.sgd(0.0), b=("^b$", jopt.sgd(0.0)))
    with pytest.raises(jopt.ConfigError):
        jopt.find_learning_rate(two, fall, params)
    one = jopt.find_learning_rate(two, fall, params, low=0.1, high=0.2, steps=2, label="route/sgd")
    assert one.losses[1] in (pytest.approx(90.0), pytest.approx(99.9))


def test_a_loss_that_is_not_finite_ends_it():
    found = jopt.find_learning_rate(
        jopt.sgd(0.1), lambda w: jnp.where(w < 1, -w, jnp.nan), jnp.float32(0.0), low=0.4, high=0.8
    )
    assert found.exploded
    assert len(found.losses) < 5
    assert np.isnan(found.losses[-1])
    assert found.lowest in found.rates


def test_what_was_given_is_as_it_was_and_wrappers_go_along():
    params = {"w": jnp.ones(3)}
    tx = jopt.accumulate(jopt.skip_nonfinite(jopt.adamw(1e-3)), 2)
    jopt.find_learning_rate(tx, lambda p: jnp.sum(p["w"] ** 2), params, steps=4)
    assert params["w"].tolist() == [1.0, 1.0, 1.0]


def test_pictures_have_the_numbers():
    found = jopt.find_learning_rate(jopt.sgd(0.1), lambda w: jnp.sum(w**2), jnp.ones(3))
    ax = found.plot()
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), found.smoothed)
    assert ax.get_xscale() == "log"
    assert jopt.plot.rates(found, ax) is ax
    tx = jopt.monitor(jopt.sgd(jopt.schedules.linear(0.1, 0.0, 6)))

    def body(carry, _):
        value, grads = jax.value_and_grad(lambda w: jnp.sum(w**2))(carry[0])
        params, state = jopt.step(tx, grads, carry[1], carry[0])
        return (params, state), {"loss": value, **jopt.metrics(state)}

    _, logged = jax.lax.scan(body, (jnp.ones(3), tx.init(jnp.ones(3))), length=6)
    axes = jopt.plot.run(logged)
    assert [ax.get_ylabel() for ax in axes] == ["loss", "learning_rate", "norm", "ratio"]
    np.testing.assert_array_equal(axes[0].get_lines()[0].get_ydata(), logged["loss"])
    assert axes[0].get_yscale() == "log"
    assert axes[1].get_yscale() == "linear"  # the rate ends at 0
    assert len(axes[2].get_lines()) == 3
    rows = [{k: float(v[i]) for k, v in logged.items()} for i in range(6)]
    (ax,) = jopt.plot.run(rows, ["^loss$"])
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), logged["loss"])


def test_what_is_wrong_is_told():
    def find(tx=jopt.sgd(0.1), f=jnp.sum, p=jnp.ones(2), *rest, **more):  # noqa: B008
        return jopt.find_learning_rate(tx, f, p, *rest, **more)

    with pytest.raises(jopt.ConfigError, match="no range of rates"):
        find(low=1.0, high=0.1)
    with pytest.raises(jopt.ConfigError, match=r"steps is a number of steps\n.*at least 2"):
        find(steps=1)
    with pytest.raises(jopt.ConfigError, match="stop above 1"):
        find(stop=1.0)
    with pytest.raises(jopt.ConfigError, match="follows a schedule"):
        find(jopt.sgd(jopt.schedules.linear(1.0, 0.0, 3)))
    with pytest.raises(jopt.ConfigError, match="no hyperparameter 'learning_rate'"):
        find(jopt.clip_by_global_norm(1.0))
    with pytest.raises(jopt.ConfigError, match="real scalar"):
        find(f=lambda p: p)
    with pytest.raises(jopt.TreeError, match="no first axis in common"):
        find(jopt.sgd(0.1), loss, jnp.zeros(3), {"x": jnp.ones(2), "y": jnp.ones(3)})
    with pytest.raises(jopt.ConfigError, match=r"outside of jax\.jit"):
        jax.jit(lambda p: find(p=p).rates)(jnp.ones(2))
    with pytest.raises(jopt.ConfigError, match="no search for a rate"):
        jopt.plot.rates(3)
    for logged in (3, {"a": "x"}, {"a": [[1.0]]}, [{"a": 1.0}, 2]):
        with pytest.raises(jopt.ConfigError, match="no rows of numbers"):
            jopt.plot.run(logged)
    with pytest.raises(jopt.ConfigError, match="nothing to draw"):
        jopt.plot.run({"a": [1.0]})


@pytest.mark.parametrize("way", [lambda xs: [{"x": x} for x in xs], iter, Loader])
def test_batches_may_come_one_by_one(way):
    def of_one(w, batch):
        return loss(w, batch["x"] if isinstance(batch, dict) else batch)

    settings = {"low": 1e-4, "high": 1e-2, "steps": 4}
    whole = jopt.find_learning_rate(jopt.sgd(0.1), of_one, jnp.zeros(3), BATCHES, **settings)
    found = jopt.find_learning_rate(jopt.sgd(0.1), of_one, jnp.zeros(3), way(BATCHES), **settings)
    np.testing.assert_array_equal(found.losses, whole.losses)


def test_a_last_batch_that_is_smaller_is_named():
    uneven = iter([jnp.ones((2, 3)), jnp.ones((1, 3))])
    with pytest.raises(jopt.TreeError, match="differ in structure or shape") as caught:
        jopt.find_learning_rate(jopt.sgd(0.1), loss, jnp.zeros(3), uneven)
    assert "(2, 3), (1, 3)" in str(caught.value)
    assert "drop_last" in str(caught.value)
    with pytest.raises(jopt.TreeError, match="there are no batches"):
        jopt.find_learning_rate(jopt.sgd(0.1), loss, jnp.zeros(3), iter([]))
