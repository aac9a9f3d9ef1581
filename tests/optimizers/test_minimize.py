"""`jopt.minimize`: to the minima of the literature, and why it stops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import jopt
from tests.benchmarks.mgh_table import by_jopt, by_scipy
from tests.oracles.mgh import BY_NAME, PROBLEMS

CONVERGED = "converged: no entry of the gradient is above tolerance_grad"


def bowl(x):
    return jnp.sum((x - 3.0) ** 2)


def near(value, minimum):
    # Where the minimum is 0 the value is the square of the residuals' tolerance.
    return abs(value - minimum) <= 1e-6 * minimum + 1e-12


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
@pytest.mark.sampled
def test_it_finds_a_minimum_of_the_paper_and_the_one_that_scipy_finds(problem):
    ours, theirs = by_jopt(problem), by_scipy(problem)
    assert any(near(ours.value, minimum) for minimum in problem.minima)
    if any(near(theirs.value, minimum) for minimum in problem.minima):
        assert near(ours.value, theirs.value) or near(theirs.value, ours.value)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_it_costs_no_more_than_scipy_on_the_whole():
    # Of the problems that both solve to the same tolerance.
    pairs = [(by_jopt(p), by_scipy(p)) for p in PROBLEMS[:12]]
    both = [(a, b) for a, b in pairs if max(a.grad_norm, b.grad_norm) <= 1e-8]
    assert len(both) >= 9
    assert sum(a.evaluations for a, _ in both) <= 1.1 * sum(b.evaluations for _, b in both)


@pytest.mark.usefixtures("x64")
def test_many_starts_at_once_are_each_as_alone():
    problem = BY_NAME["beale"]
    starts = np.array([[1.0, 1.0], [2.0, 0.0], [0.5, -0.5], [3.0, 0.5]])
    many = jax.jit(jax.vmap(lambda x: jopt.minimize(problem.value, x)))(starts)
    assert list(many.message) == [CONVERGED] * 4
    for i, x in enumerate(starts):
        one = jopt.minimize(problem.value, x)
        np.testing.assert_allclose(many.params[i], one.params, rtol=1e-9)
        assert (many.steps[i], many.evaluations[i]) == (one.steps, one.evaluations)


@pytest.mark.parametrize(
    "tx", [None, jopt.sgd(0.1), jopt.lbfgs(max_iter=3), jopt.lbfgs(0.5, max_iter=1)], ids=str
)
def test_evaluations_are_what_was_evaluated(tx):
    calls = []

    def fun(x):
        jax.debug.callback(lambda: calls.append(1))
        return bowl(x) + jnp.sum(jnp.sin(x))

    found = jopt.minimize(fun, jnp.zeros(2), tx=tx, max_steps=5)
    jax.effects_barrier()
    assert int(found.evaluations) == len(calls)


TRANSFORMS = (
    jopt.sgd(0.1),
    jopt.adam(0.3),
    jopt.chain(jopt.clip_by_global_norm(1.0), jopt.sgd(0.3)),
    optax.sgd(0.1),
    optax.lbfgs(),
)


@pytest.mark.parametrize("tx", TRANSFORMS, ids=lambda tx: type(tx).__name__)
def test_any_transform_drives(tx):
    found = jopt.minimize(bowl, jnp.zeros(3), tx=tx, tolerance_grad=1e-4)
    assert found.message == CONVERGED
    np.testing.assert_allclose(found.params, 3.0, atol=1e-4)
    np.testing.assert_array_equal(found.grad_norm, jnp.max(jnp.abs(jax.grad(bowl)(found.params))))
    assert found.value == bowl(found.params)


def test_trees_arguments_and_aux():
    def fun(p, target, scale):
        gap = (p["a"] - target) * scale
        return jnp.sum(gap**2) + (p["b"][0] + 1) ** 2, {"gap": gap}

    x0 = {"a": np.zeros(2, np.float32), "b": [0.0]}
    target = jnp.float32([1.0, 2.0])
    found = jopt.minimize(fun, x0, target, jnp.float32(2.0), has_aux=True)
    assert found.converged
    np.testing.assert_allclose(found.params["a"], target, rtol=1e-5)
    np.testing.assert_allclose(found.params["b"][0], -1.0, rtol=1e-5)
    np.testing.assert_array_equal(found.aux["gap"], (found.params["a"] - target) * 2)


def test_complex_parameters():
    def fun(z):
        return jnp.sum(jnp.abs(z - (1 + 2j)) ** 2 + jnp.real(z) ** 4)

    found = jopt.minimize(fun, jnp.zeros(2, jnp.complex64))
    want = scipy.optimize.brentq(lambda x: 4 * x**3 + 2 * (x - 1), 0, 1)
    np.testing.assert_allclose(found.params, want + 2j, rtol=1e-5)


def test_why_it_stops():
    def stop(fun, x0, **arguments):
        found = jopt.minimize(fun, jnp.float32(x0), **arguments)
        return found, found.message

    slow = jopt.sgd(1e-3)
    found, message = stop(bowl, [0.0], tx=slow, max_steps=7)
    assert message == "stopped at max_steps, not converged"
    assert (int(found.steps), bool(found.converged)) == (7, False)

    found, message = stop(bowl, [0.0], tx=slow, tolerance_value=0.05)
    assert message == "converged: the value changed by no more than tolerance_value"
    assert bool(found.converged)

    found, message = stop(bowl, [0.0], tx=slow, tolerance_params=0.007)
    assert message == "converged: the parameters changed by no more than tolerance_params"

    found, message = stop(bowl, [3.0])
    assert (message, int(found.steps), int(found.evaluations)) == (CONVERGED, 0, 1)

    found, message = stop(bowl, [0.0], tx=jopt.lbfgs(0.0))
    assert message == "stalled: two steps in a row left the parameters as they were"
    assert int(found.steps) == 2


@pytest.mark.parametrize(
    "tx",
    [
        jopt.accumulate(jopt.sgd(0.1), every=4),
        jopt.sgd(jopt.schedules.join([jopt.schedules.constant(0.0)] * 2, [3])),
    ],
    ids=["micro-batches", "waiting"],
)
def test_a_transform_that_rests_is_no_stall(tx):
    found = jopt.minimize(bowl, jnp.zeros(2), tx=tx, max_steps=400)
    rests = "stopped at max_steps, not converged"
    assert found.message == (CONVERGED if "accumulate" in found.state else rests)


def test_a_warm_up_from_a_learning_rate_of_zero_is_no_stall():
    rate = jopt.schedules.linear(0.0, 0.3, 5)
    assert jopt.minimize(bowl, jnp.zeros(2), tx=jopt.sgd(rate)).message == CONVERGED


NOT_FINITE = "stopped: the value or gradient is not finite; params are the last at which they were"


def test_where_it_is_not_finite_it_returns_the_point_before():
    def cliff(x):
        return jnp.sum(x - jnp.log(x))

    found = jopt.minimize(cliff, jnp.float32([0.1]), tx=jopt.sgd(1.0, maximize=True))
    assert found.message == NOT_FINITE
    assert int(found.steps) == 1
    np.testing.assert_array_equal(found.params, jnp.float32([0.1]))
    assert found.value == cliff(found.params)

    found = jopt.minimize(cliff, jnp.float32([-1.0]))
    assert (found.message, int(found.steps)) == (NOT_FINITE, 0)

    found = jopt.minimize(cliff, jnp.float32([0.01]))
    assert found.message == CONVERGED
    np.testing.assert_allclose(found.params, 1.0, rtol=1e-4)


def test_a_second_call_compiles_nothing():
    traces = []

    def fun(x, shift):
        traces.append(1)
        return bowl(x - shift)

    for shift in (0.0, 1.0):
        for tolerance in (1e-3, 1e-4):
            jopt.minimize(fun, jnp.zeros(2), jnp.float32(shift), tolerance_grad=tolerance)
    before = len(traces)
    jopt.minimize(fun, jnp.ones(2), jnp.float32(3.0))
    assert len(traces) == before


def error(*args, **kwargs):
    with pytest.raises(jopt.JoptError) as found:
        jopt.minimize(*args, **kwargs)
    return str(found.value)


def test_errors():
    x = jnp.zeros(2)
    assert error(bowl, x, tolerance_grad=-1.0).startswith("minimize: tolerance_grad is below 0")
    assert error(bowl, x, max_steps=-1).startswith("minimize: max_steps is below 0")
    assert error(bowl, x, tx=jopt.adam).startswith("chain: this is no transform")
    assert error(lambda x: x, x) == (
        "minimize: fun does not give a real scalar\n"
        "  expected: a floating scalar, or (scalar, aux) with has_aux=True\n"
        "  found:    float32[2]"
    )
    assert error(bowl, {"n": 3}) == (
        "minimize: a leaf of x0 cannot be moved by small steps\n"
        "  at:       n\n"
        "  expected: a floating or complex dtype\n"
        "  found:    int32\n"
        "  Give it to fun through args, or as a float."
    )
