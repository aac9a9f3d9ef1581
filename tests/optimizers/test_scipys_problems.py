"""`jopt.minimize` on the problems that SciPy tests its own minimisers with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

slow = pytest.mark.slow
FREE = np.inf


def entropy(x):
    """A model of maximal entropy for machine translation (Berger, Della Pietra, 1996)."""
    rows = jnp.array([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0], [1, 0, 0]], float)
    return jax.scipy.special.logsumexp(rows @ x) - jnp.array([1.0, 0.3, 0.5]) @ x


def rosen(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def beale(x):
    powers = x[1] ** jnp.arange(1.0, 4.0)
    return jnp.sum((jnp.array([1.5, 2.25, 2.625]) - x[0] * (1 - powers)) ** 2)


def half_square(x):
    return jnp.sum(x**2) / 2


PROBLEMS = [
    (entropy, [0, 0, 0], None, [0, -0.524869316, 0.487525860]),
    pytest.param(rosen, [1.3, 0.7, 0.8, 1.9, 1.2], None, [1] * 5, marks=slow),
    pytest.param(himmelblau, [0, 0], None, [3, 2], marks=slow),
    pytest.param(beale, [1, 1], None, [3, 0.5], marks=slow),
    pytest.param(half_square, [2, 2], ([1, -FREE], [FREE, FREE]), [1, 0], marks=slow),
    pytest.param(rosen, [1.3, 0.7], ([0, 0], [0.8, 2]), [0.8, 0.64], marks=slow),
    pytest.param(himmelblau, [0, 0], ([0, 0], [2.5, 5]), None, marks=slow),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("fun", "x0", "bounds", "at"), PROBLEMS)
def test_it_ends_where_scipy_ends(fun, x0, bounds, at):
    from scipy import optimize

    sides = None if bounds is None else tuple(np.asarray(side, float) for side in bounds)
    found = jopt.minimize(fun, np.asarray(x0, float), bounds=sides, tolerance_grad=1e-8)
    assert bool(found.success)
    theirs = optimize.minimize(
        jax.jit(fun), np.asarray(x0, float), jac=jax.jit(jax.grad(fun)), method="L-BFGS-B",
        bounds=sides and optimize.Bounds(*sides), options={"gtol": 1e-8, "ftol": 0},
    )  # fmt: skip
    np.testing.assert_allclose(found.params, theirs.x if at is None else at, atol=1e-5)
    assert found.value <= theirs.fun + 1e-9
    assert found.nfev == found.njev <= 2 * theirs.nfev
    assert found.nit == found.steps
