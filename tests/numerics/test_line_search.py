"""The strong Wolfe search against torch's own, point for point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim.lbfgs import _strong_wolfe

from jopt.numerics import strong_wolfe

FUNCTIONS = {
    "quadratic": lambda t: (t - 1.3) ** 2,
    "far": lambda t: (t - 300.0) ** 2,
    "near": lambda t: 1e4 * (t - 1e-4) ** 2,
    "waves": lambda t: jnp.cos(5 * t) - 0.3 * t + 0.02 * t**2,
    "quartic": lambda t: (t - 2.0) ** 4 - 0.5 * t,
    "flat": lambda t: -t / (t**2 + 2.0),
    "steep": lambda t: jnp.exp(3 * t) - 10 * t,
    "linear": lambda t: -t,
    "kink": lambda t: jnp.abs(t - 0.7) + 0.1 * t**2,
}


def ours(f, t, max_steps, tolerance=1e-9):
    slope = jax.grad(f)

    def evaluate(t):
        return f(t), slope(t), slope(t)

    zero = jnp.zeros(())
    found = jax.jit(
        lambda t: strong_wolfe(
            evaluate,
            t,
            f(zero),
            slope(zero),
            slope(zero),
            d_max=jnp.ones(()),
            max_steps=max_steps,
            tolerance=jnp.asarray(tolerance),
        )
    )(jnp.asarray(t))
    return float(found.t), float(found.f), float(found.g), int(found.evaluations)


def theirs(f, t, max_steps):
    look = jax.jit(jax.value_and_grad(f))
    direction = torch.ones(1, dtype=torch.float64)

    def evaluate(_, t, d):
        value, slope = look(float(t))
        return float(value), torch.tensor([float(slope)], dtype=torch.float64)

    value, slope = look(0.0)
    g = torch.tensor([float(slope)], dtype=torch.float64)
    x = [torch.zeros(1, dtype=torch.float64)]
    value, g, t, evaluations = _strong_wolfe(
        evaluate, x, t, direction, float(value), g, g[0], max_ls=max_steps
    )
    return float(t), float(value), float(g[0]), evaluations


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("max_steps", [0, 1, 2, 5, 24])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.sampled
def test_it_takes_torchs_steps(name, max_steps):
    f = FUNCTIONS[name]
    for t in (1.0, 0.01, 7.5):
        got, want = ours(f, t, max_steps), theirs(f, t, max_steps)
        np.testing.assert_allclose(got[:2], want[:2], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(got[2], want[2], rtol=1e-9, atol=1e-9)
        assert got[3] == want[3]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("t", [1.0, 3.0, 1e3, 1e9])
@pytest.mark.parametrize(
    "f",
    [
        lambda t: -jnp.log(0.5 - t) - 4 * t,
        lambda t: jnp.where(t > 0.5, jnp.inf, 5 * (t - 0.4) ** 2),
        lambda t: jnp.where(t > 0.5, -jnp.inf, 5 * (t - 0.4) ** 2),
    ],
    ids=["nan", "inf", "minus_inf"],
)
def test_it_comes_back_from_where_the_function_is_not_finite(f, t):
    found, value, slope, evaluations = ours(f, t, max_steps=60)
    start = jax.grad(f)(0.0)
    assert 0 < found <= 0.5
    assert value <= f(0.0) + 1e-4 * found * start
    assert abs(slope) <= 0.9 * abs(start)
    assert evaluations <= 45


def test_a_search_that_finds_nothing_finite_stays_where_it_is():
    found = ours(lambda t: jnp.where(t > 0, jnp.nan, -t), 1.0, max_steps=10)
    assert found == (0.0, 0.0, -1.0, 11)


def test_no_go_evaluates_nothing():
    zero = jnp.float32(0)
    found = strong_wolfe(
        lambda t: (t, t, t), zero + 1, zero + 3, zero + 5, zero - 1,
        d_max=zero, max_steps=9, tolerance=zero, go=False,
    )  # fmt: skip
    assert (float(found.t), float(found.f), float(found.g), int(found.evaluations)) == (0, 3, 5, 0)
