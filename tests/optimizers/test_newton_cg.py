"""`jopt.minimize(method="newton_cg")`: the steps of the book, and what SciPy's finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.oracles import newton_cg
from tests.oracles.mgh import BY_NAME, PROBLEMS

ROUNDING = "converged: no decrease of the value can be represented"
FOLLOWED = [
    ("wood", 20),
    pytest.param("helical_valley", 8, marks=pytest.mark.slow),
    pytest.param("brown_dennis", 6, marks=pytest.mark.slow),
    pytest.param("extended_rosenbrock", 15, marks=pytest.mark.slow),
    pytest.param("biggs_exp6", 20, marks=pytest.mark.slow),
]


def newton(fun, x0, *args, **more):
    return jopt.minimize(fun, x0, *args, method="newton_cg", **more)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "steps"), FOLLOWED)
def test_it_takes_the_steps_of_a_plain_loop(name, steps):
    problem = BY_NAME[name]
    x0 = np.asarray(problem.start, float)
    values, counts, at = newton_cg.run(problem, x0, steps)
    found = newton(problem.value, x0, max_steps=steps, tolerance_grad=0.0, trace=steps)
    assert (int(found.steps), [int(found.evaluations), int(found.products)]) == (steps, counts)
    np.testing.assert_allclose(found.trace, values, rtol=1e-9)
    np.testing.assert_allclose(found.params, at, rtol=1e-9)


def curved(x, curvatures, fourth, pull, at, kink):
    """A quadratic with such a diagonal, and walls around it."""
    bowl = jnp.sum(curvatures * x**2 + fourth * x**4 / 2 + pull * (x - at) ** 2) / 2
    return bowl + kink * jnp.sum(jnp.abs(x - at))


CURVED = [
    ([2.0, 2.0], 0.0, [3.0, -5.0], [0.0, 0.0]),  # one product gives the minimum
    ([1.0, -1.0], 1.0, [0.5, 1e-3], [0.0, 1.0]),  # beside a saddle
    ([-1.0, -4.0], 1.0, [0.1, 0.1], [1.0, 2.0]),  # of no positive curvature at the start
    ([3.0, 0.0], 0.0, [1.0, 7.0], [0.0, 7.0]),  # singular: what costs nothing stays
]


def test_curvature_of_every_sign_and_the_last_places_of_a_value():
    for curvatures, fourth, x0, at in CURVED:
        found = newton(curved, jnp.array(x0), jnp.array(curvatures), fourth, 0.0, 0.0, 0.0)
        assert found.message.startswith("converged: no entry of the gradient")
        np.testing.assert_allclose(found.params, at, atol=1e-5)
        if not fourth:
            assert (int(found.steps), int(found.evaluations), int(found.products)) == (1, 2, 1)
    # In float32 the next number beside the minimum has a gradient of 0.5.
    x0, steep = jnp.array([1.0, -3.0]), jnp.array([2e6, 4e6])
    found = newton(curved, x0, steep, 0.0, 7e6, 3.141, 0.0)
    assert found.message == ROUNDING
    np.testing.assert_allclose(found.params, 7e6 * 3.141 / (7e6 + steep), rtol=1e-6)
    nan = newton(curved, x0, steep, 0.0, 0.0, 0.0, jnp.nan)
    assert nan.message.startswith("stopped: the value or gradient is not finite")
    assert int(nan.evaluations) == 1
    kink = newton(curved, x0, steep, 0.0, 0.0, 0.3, 1e9)
    assert kink.message == "stopped: no step lowers the value, however small the region of trust"
    assert "TRUST REGION" in kink.as_scipy().message


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_another_unit_of_value_or_parameters_changes_nothing():
    problem, x0 = BY_NAME["wood"], jnp.array([-3.0, -1.0, -3.0, -1.0])
    plain = newton(problem.value, x0, max_steps=12, tolerance_grad=0.0)
    value = newton(lambda x: 2.0**70 * problem.value(x), x0, max_steps=12, tolerance_grad=0.0)
    units = newton(lambda x: problem.value(x * 2.0**9), x0 / 2.0**9, max_steps=12, tolerance_grad=0)
    for found, scale in ((value, 1.0), (units, 2.0**9)):
        assert (found.evaluations, found.products) == (plain.evaluations, plain.products)
        np.testing.assert_array_equal(found.params * scale, plain.params)


@pytest.mark.slow
def test_trees_of_complex_numbers_from_many_starts_with_more_than_a_value():
    def fun(p):
        far = jnp.abs(p["c"] - (1 + 2j)) ** 2
        return jnp.sum(far + far**2) + (p["a"] - 3.0) ** 4, {"far": far}

    starts = {"a": jnp.array([0.0, 2.0, 9.0]), "c": jnp.array([[0j, 1j], [1 + 2j, 5], [-3, 4j]])}
    run = jax.jit(jax.vmap(lambda p: newton(fun, p, has_aux=True, trace=3)))
    many = run(starts)
    assert many.params["c"].dtype == jnp.complex64
    assert many.success.all()
    np.testing.assert_allclose(many.params["c"], 1 + 2j, atol=1e-4)
    np.testing.assert_allclose(many.params["a"], 3, atol=0.1)
    assert (many.trace.shape, many.aux["far"].shape) == ((3, 4), (3, 2))
    np.testing.assert_array_equal(many.trace[:, 0], jax.vmap(lambda p: fun(p)[0])(starts))
    best = many.best()
    scipys = best.as_scipy()
    assert scipys.nhev == int(best.nhev) >= scipys.nit > 0


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_where_the_gradient_too_is_rounding_no_decrease_can_be_represented():
    n, m = 200, 400  # "linear function, rank 1" of the paper, as large as ARGLINB of CUTEst

    def fun(x, rows):
        return jnp.sum((rows @ x - 1) ** 2)

    rows = jnp.outer(jnp.arange(1.0, m + 1), jnp.arange(1.0, n + 1))
    found = newton(fun, jnp.ones(n), rows, tolerance_grad=1e-8)
    assert (found.message, float(found.grad_norm) > 1e-3) == (ROUNDING, True)
    np.testing.assert_allclose(found.value, m * (m - 1) / (2 * (2 * m + 1)), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("factor", [-1e3, -1.0, -1e-3])
def test_a_wrong_gradient_is_no_rounding(factor):
    @jax.custom_jvp
    def fun(x):
        return jnp.sum((x - 1) ** 2) + jnp.sum(x**4) + 3

    fun.defjvp(lambda x, d: (fun(*x), factor * jnp.sum(d[0] * (2 * (x[0] - 1) + 4 * x[0] ** 3))))
    found = newton(fun, jnp.array([2.0, 3.0]))
    assert found.message.startswith("stopped: no step lowers the value")


@pytest.mark.slow
def test_gradients_of_which_the_square_overflows():
    curvatures = 1e25 * jnp.array([1.0, 3.0, 9.0])
    found = newton(
        lambda x: jnp.sum(curvatures * (x - 0.5) ** 2), jnp.zeros(3), tolerance_grad=1e17
    )
    assert bool(found.success)
    np.testing.assert_allclose(found.params, 0.5, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_it_finds_a_minimum_of_the_paper_wherever_scipys_does(problem):
    x0 = np.asarray(problem.start, float)
    found = newton(problem.value, x0, tolerance_grad=newton_cg.TOLERANCE)
    theirs = newton_cg.by_scipy(problem.value_and_grad, problem.product, x0)
    # A gradient of 1e-8 is not always that near: not in SciPy's either.
    ours, scipys = (
        any(value <= m + 1e-6 * m + 1e-12 for m in problem.minima)
        for value in (found.value, theirs.fun)
    )
    assert ours or not scipys
    assert found.success
