"""The weights of the L-BFGS direction against the two loops of the textbook."""

import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import inverse_hessian_weights


def two_loops(pairs, g, gamma):
    """Nocedal and Wright, 2006, algorithm 7.4."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (y @ s))
        q -= alphas[-1] * y
    r = gamma * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r += s * (alpha - y @ r / (y @ s))
    return -r


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stored", [0, 1, 3, 5, 6, 9, 10, 23])
def test_the_direction_is_that_of_the_two_loops(stored):
    # 5 rows: some of them empty, all full, and written over more than once. What no pair fills,
    # and the products that no pair needs, are NaN: they must not be looked at.
    m, n, gamma = 5, 12, 0.3
    rng = np.random.default_rng(stored)
    a = rng.normal(size=(n, n))
    hessian = a @ a.T + np.eye(n)
    g = rng.normal(size=n)
    s, y = np.full((2, m, n), np.nan)
    for k in range(stored):
        s[k % m] = rng.normal(size=n)
        y[k % m] = hessian @ s[k % m]
    sy = s @ y.T
    ages = list(range(stored))[-m:]
    for i in ages:
        for j in ages:
            if i > j:
                sy[i % m, j % m] = np.nan
    numbers = (sy, y @ y.T, s @ g, y @ g, np.float64(gamma), np.int32(stored))
    wa, wb = inverse_hessian_weights(*(jnp.asarray(v) for v in numbers))
    found = -gamma * g + np.asarray(wa) @ np.nan_to_num(s) + np.asarray(wb) @ np.nan_to_num(y)
    pairs = [(s[k % m], y[k % m]) for k in ages]
    np.testing.assert_allclose(found, two_loops(pairs, g, gamma), rtol=1e-10, atol=1e-12)
