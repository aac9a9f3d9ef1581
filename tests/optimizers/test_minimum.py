"""What a `Minimum` says: which start was the best, in SciPy's form, values on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

ROUNDING = "converged: no decrease of the value can be represented"


def waves(x):
    return jnp.sum(jnp.cos(3 * x) + 0.1 * x**2)


def test_the_best_of_many_starts():
    starts = jnp.linspace(-4.0, 4.0, 6).reshape(2, 3, 1)
    run = jax.vmap(jax.vmap(lambda x: jopt.minimize(waves, x, has_aux=False)))
    many = run(starts)
    best = jax.jit(lambda x: run(x).best())(starts)
    assert best.value == jnp.min(many.value)
    assert best.value == waves(best.params)
    assert bool(best.success)
    assert best.best() is best
    worse = many._replace(value=many.value.at[0, 0].set(jnp.nan))
    assert jnp.isfinite(worse.best().value)


@pytest.mark.parametrize("tx", [None, jopt.sgd(0.1)], ids=["lbfgs", "sgd"])
def test_the_values_on_the_way(tx):
    found = jopt.minimize(waves, jnp.ones(2), tx=tx, trace=40)
    steps = int(found.steps)
    assert 3 <= steps < 40
    assert found.trace[0] == waves(jnp.ones(2))
    assert found.trace[steps] == found.value
    assert jnp.all(jnp.diff(found.trace[: steps + 1]) < 1e-6)
    assert jnp.all(jnp.isnan(found.trace[steps + 1 :]))
    short = jopt.minimize(waves, jnp.ones(2), tx=tx, trace=2)
    np.testing.assert_array_equal(short.trace, found.trace[:3])
    assert jopt.minimize(waves, jnp.ones(2), tx=tx).trace is None


def test_in_the_form_of_scipy():
    found = jopt.minimize(waves, jnp.ones(2)).as_scipy()
    assert found.success
    assert found.status == 0
    assert found.nfev == found.njev >= found.nit > 0
    assert found.message.startswith("CONVERGENCE: NORM OF PROJECTED GRADIENT")
    assert isinstance(found.x, np.ndarray)
    found = jopt.minimize(waves, jnp.ones(2), max_steps=1).as_scipy()
    assert (found.success, found.status, found.nit) == (False, 1, 1)
    assert found.message.startswith("STOP: TOTAL NO. OF ITERATIONS")


def test_what_no_step_can_lower_has_converged():
    # In float32 the next number beside the minimum already has a gradient of 0.5.
    def steep(x):
        return 1e6 * jnp.sum((x - 3.141) ** 2 + (1.7 * x - 5.345) ** 2)

    found = jopt.minimize(steep, jnp.ones(3))
    assert found.message == ROUNDING
    assert bool(found.success)
    assert "CONVERGENCE: RELATIVE REDUCTION OF F" in found.as_scipy().message
    exact = (3.141 + 1.7 * 5.345) / (1 + 1.7**2)
    np.testing.assert_allclose(found.params, exact, rtol=1e-6)


def test_gradients_of_which_the_square_overflows():
    def far(x):
        return 1e25 * jnp.sum(jnp.array([1.0, 3.0, 9.0]) * (x - 0.5) ** 2)

    found = jopt.minimize(far, jnp.zeros(3), tolerance_grad=1e17)
    assert bool(found.success)
    np.testing.assert_allclose(found.params, 0.5, rtol=1e-6)


def test_no_step_is_the_start():
    found = jopt.minimize(waves, jnp.ones(2), max_steps=0)
    assert (int(found.steps), int(found.evaluations), float(found.value)) == (
        0,
        1,
        waves(jnp.ones(2)),
    )


def test_parameters_of_several_dtypes():
    with jax.enable_x64(True):
        x0 = {"a": jnp.zeros(2, jnp.bfloat16), "b": jnp.zeros((1, 2)), "c": jnp.zeros((), complex)}

        def fun(p):
            a, c = p["a"].astype(float), p["c"]
            return jnp.sum((a - 1) ** 2) + jnp.sum((p["b"] - 2) ** 4) + jnp.abs(c - 2j) ** 2

        found = jopt.minimize(fun, x0)
    assert {k: v.dtype.name for k, v in found.params.items()} == {
        "a": "bfloat16",
        "b": "float64",
        "c": "complex128",
    }
    np.testing.assert_allclose(found.params["c"], 2j, atol=1e-4)
    np.testing.assert_allclose(found.params["b"], 2, atol=3e-2)


def test_where_there_is_nothing_to_move_it_is_done():
    found = jopt.minimize(lambda x: jnp.sum(x) + 2.0, jnp.zeros((0, 3)))
    assert (found.params.shape, float(found.value), bool(found.success)) == ((0, 3), 2.0, True)


def test_every_step_moves_something():
    t = jnp.linspace(0.0, 1.0, 8)
    y = 200 + 100 * jnp.exp(-2 * t) + jnp.sin(9 * t)

    def misfit(p):
        return jnp.sum((p[0] * jnp.exp(-p[1] * t) + p[2] - y) ** 2)

    found = jopt.minimize(misfit, jnp.ones(3), tolerance_grad=0.0)
    before = jopt.minimize(misfit, jnp.ones(3), tolerance_grad=0.0, max_steps=int(found.steps) - 1)
    assert found.message == ROUNDING
    assert np.any(found.params != before.params)
