"""`jopt.minimize` between bounds."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jopt

GRADIENT = "converged: no entry of the gradient is above tolerance_grad"


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.usefixtures("x64")
def test_it_ends_where_scipy_does_and_looks_nowhere_else():
    rng = np.random.default_rng(1)
    n = 12
    half = rng.normal(size=(n, n))
    matrix = half @ half.T
    low, high = np.full(n, -0.375), np.full(n, 0.25)
    low[0], high[1], low[2], high[2] = -np.inf, np.inf, 0.125, 0.125
    seen = []

    def fun(x):
        jax.debug.callback(lambda x: seen.append(x), x)
        return x @ matrix @ x / 2 + jnp.sum(jnp.linspace(-3, 4, n) * x) + 0.2 * rosenbrock(x)

    found = jopt.minimize(fun, np.ones(n), bounds=(low, high), tolerance_grad=1e-9)
    jax.effects_barrier()
    assert found.message == GRADIENT
    assert len(seen) == int(found.evaluations) < 60
    assert np.all(np.stack(seen) >= low)
    assert np.all(np.stack(seen) <= high)
    theirs = scipy.optimize.minimize(
        jax.jit(fun), np.clip(np.ones(n), low, high), jac=jax.jit(jax.grad(fun)), method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(low, high), options={"ftol": 0, "gtol": 1e-9},
    )  # fmt: skip
    np.testing.assert_allclose(found.params, theirs.x, atol=1e-6)
    gradient = jax.grad(fun)(found.params)
    projected = jnp.clip(found.params - gradient, low, high) - found.params
    np.testing.assert_allclose(found.grad_norm, jnp.max(jnp.abs(projected)), atol=1e-12)


def test_known_bounds_are_looked_at_within_jit_too():
    x0, low, high, under = (jnp.float32([x, x]) for x in (1.0, 0.25, 2.0, -2.0))

    def shapes(low, high):
        return jax.eval_shape(lambda x: jopt.minimize(rosenbrock, x, bounds=(low, high)), x0)

    assert shapes(low, high).params.shape == (2,)
    with pytest.raises(jopt.TreeError, match="above the upper one"):
        shapes(low, under)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_what_is_fixed_is_no_variable():
    # With the gradient of a fixed entry in the pairs the steps would be others.
    def fun(x, held):
        return rosenbrock(x) + 1e3 * jnp.sum(held**2 * (2 + x[0] - x[1]) + held)

    free, none = np.full(6, np.inf), np.full(2, 0.5)
    alone = jopt.minimize(
        fun, np.zeros(6), none, bounds=(-free, free), tolerance_grad=1e-9, trace=60
    )
    both = jopt.minimize(
        lambda p: fun(*p),
        (np.zeros(6), none + 1),
        bounds=((-free, none), (free, none)),
        tolerance_grad=1e-9,
        trace=60,
    )
    assert both.message == alone.message == GRADIENT
    np.testing.assert_array_equal(both.params[1], none)
    np.testing.assert_allclose(both.params[0], alone.params, atol=1e-8)
    np.testing.assert_allclose(both.trace[:15], alone.trace[:15], rtol=1e-9)
    assert int(both.evaluations) == int(alone.evaluations)


def test_trees_numbers_and_one_side():
    def fun(p):
        return jnp.sum((p["a"] - 3) ** 2) + jnp.sum((p["b"] + 3) ** 2) + (p["c"] - 1) ** 2

    x0 = {"a": jnp.zeros(2), "b": jnp.zeros(()), "c": 0.0}
    upper = {"a": jnp.float32([2.0, 5.0]), "b": None, "c": 0.5}
    found = jopt.minimize(fun, x0, bounds=(-1.0, upper))
    np.testing.assert_allclose(found.params["a"], [2.0, 3.0], rtol=1e-5)
    assert (float(found.params["b"]), float(found.params["c"])) == (-1.0, 0.5)
    lower = jopt.minimize(fun, x0, bounds=[None, 0.0])
    np.testing.assert_allclose(lower.params["b"], -3.0, rtol=1e-5)
    assert float(lower.params["c"]) == 0.0
    fixed = jopt.minimize(fun, x0, bounds=(0.0, 0.0))
    assert (int(fixed.evaluations), fixed.message) == (1, GRADIENT)


def test_many_starts_between_bounds():
    def fun(x, size):
        return size * rosenbrock(x)

    # The last one is the one before, with gradients of which the squares overflow.
    starts = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)[jnp.array([0, 1, 2, 2])]
    tops, sizes = jnp.float32([0.5, 0.7, 2.0, 2.0]), jnp.float32([1, 1, 1, 2.0**80])
    run = jax.vmap(lambda x, top, size: jopt.minimize(fun, x, size, bounds=(-0.5, top)))
    many = jax.jit(run)(starts, tops, sizes)
    for i in range(3):
        one = jopt.minimize(fun, starts[i], sizes[i], bounds=(-0.5, tops[i]))
        np.testing.assert_allclose(many.params[i], one.params, rtol=2e-3)
    np.testing.assert_allclose(many.params[3], many.params[2], rtol=2e-3)
    assert jnp.all(many.params <= tops[:, None])


@pytest.mark.slow
@pytest.mark.parametrize("low", [None, 0.0])
def test_squares_of_gradients_that_overflow(low):
    def far(x):
        return 1e25 * jnp.sum(jnp.array([1.0, 3.0, 9.0]) * (x - 0.5) ** 2)

    found = jopt.minimize(far, jnp.full(3, 0.1), bounds=(low, None), tolerance_grad=1e17)
    np.testing.assert_allclose(found.params, 0.5, rtol=5e-3)
    found = jopt.minimize(far, jnp.full(3, 0.1), bounds=(low, 0.375), tolerance_grad=1e-5)
    np.testing.assert_array_equal(found.params, 0.375)


def test_a_model_that_rises_is_forgotten_as_often_as_it_takes(monkeypatch):
    # As rounding errors may have it: with two pairs the step leads uphill.
    def uphill(p, free, x, g, low, high):
        return jnp.where(p.n >= 2, g, jnp.clip(x - g, low, high) - x)

    def valley(x):
        return jnp.sum(jnp.array([1.0, 40.0]) * (x - 0.5) ** 2)

    monkeypatch.setattr(importlib.import_module("jopt.minimize.by_pairs"), "bounded_step", uphill)
    found = jopt.minimize(valley, jnp.array([4.0, 0.6]), bounds=(0.0, None))
    assert found.message == GRADIENT
    assert int(found.steps) > 2 * 11


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        (3.0, "minimize: bounds= is no pair"),
        ((1.0, 0.0), "a lower bound is above the upper one, or no number"),
        ((np.nan, 0.0), "a lower bound is above the upper one, or no number"),
        ((np.zeros(3), None), r"expected: a number, or shape \[2\]"),
        (({"a": 0.0}, None), "a leaf is no array"),
        (("x", None), "a leaf is no array"),
    ],
)
def test_what_no_bounds_are(bounds, says):
    with pytest.raises(jopt.JoptError, match=says):
        jopt.minimize(rosenbrock, jnp.zeros(2), bounds=bounds)


def test_where_there_are_no_bounds():
    with pytest.raises(jopt.JoptError, match=r"bounds\[1\] has not the structure of x0"):
        jopt.minimize(lambda p: jnp.sum(p["a"]), {"a": jnp.zeros(2)}, bounds=(None, {"b": 1.0}))
    with pytest.raises(jopt.JoptError, match="a transform knows no bounds"):
        jopt.minimize(rosenbrock, jnp.zeros(2), tx=jopt.sgd(0.1), bounds=(0.0, 1.0))
    with pytest.raises(jopt.JoptError, match="complex numbers have no order"):
        jopt.minimize(lambda z: jnp.abs(z), jnp.zeros((), complex), bounds=(0.0, None))
