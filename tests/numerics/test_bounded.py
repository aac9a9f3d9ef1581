"""The step between bounds, against the model as a dense matrix and its path piece by piece."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import Pairs, bounded_step, counted
from jopt.numerics.bounded import cauchy, compact, held_step


def made(rng, n, m, pairs):
    """Pairs of a convex function, and the BFGS matrix of the last m in plain updates."""
    half = rng.normal(size=(n, n))
    hessian = half @ half.T + np.eye(n)
    p, kept = Pairs.none(m, jnp.zeros(n)), []
    for _ in range(pairs):
        s = rng.normal(size=n)
        y = hessian @ s
        count, last = counted(p.n, p.last, m, jnp.asarray(True), jnp.asarray(False))
        rows = (x.at[last].set(new / np.sqrt(s @ y)) for x, new in ((p.s, s), (p.y, y)))
        p = Pairs(*rows, p.inverse, p.gamma, count, last)
        kept = [*kept, (s, y)][-m:]
    b = np.eye(n)
    if kept:
        s, y = kept[-1]
        b = np.eye(n) * (y @ y) / (s @ y)
    for s, y in kept:
        b = b - np.outer(b @ s, b @ s) / (s @ b @ s) + np.outer(y, y) / (s @ y)
    return p, b


def walked(b, x, g, low, high):
    """The Cauchy point of the paper's algorithm CP, with the dense matrix."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.where(g < 0, (high - x) / -g, np.where(g > 0, (x - low) / g, np.inf))
    z, t = np.zeros_like(x), 0.0
    for end in [*sorted(set(ends[ends > 0])), np.inf]:
        d = np.where(ends > t, -g, 0)
        if not d.any():
            break
        slope, curve = d @ (g + b @ z), d @ b @ d
        if slope >= 0:
            break
        if -slope / curve < end - t:
            z = z + d * (-slope / curve)
            break
        z, t = z + d * (end - t), end
    return z


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("pairs", [0, 2, 7])
def test_the_cauchy_point_and_the_step_from_it(pairs):
    rng = np.random.default_rng(pairs)
    n, m = 8, 4
    p, b = made(rng, n, m, pairs)
    jitted = jax.jit(lambda *a: (cauchy(*compact(p), *a)[0], held_step(p, *a)))
    for i in range(12):
        low, high = np.full(n, -1.0), np.full(n, 1.0)
        low[:2], high[1:3] = -np.inf, np.inf
        low[5] = high[5] = 0.3
        x = np.clip(rng.normal(size=n), low, high)
        g = rng.normal(size=n) * 10.0 ** rng.integers(-2, 3) * (i != 11)
        z, step = jitted(*map(jnp.asarray, (x, g, low, high)))
        want = walked(b, x, g, low, high)
        np.testing.assert_allclose(z, want, rtol=1e-8, atol=1e-10)
        assert np.all(x + step >= low - 1e-15)
        assert np.all(x + step <= high + 1e-15)
        free = (x + want > low) & (x + want < high)
        d = np.zeros(n)
        d[free] = np.linalg.solve(b[np.ix_(free, free)], -(g + b @ want)[free])
        projected = np.clip(x + want + d, low, high) - x
        if projected @ g < 0:
            np.testing.assert_allclose(step, projected, rtol=1e-7, atol=1e-9)
        else:
            assert step @ g <= 0


@pytest.mark.usefixtures("x64")
def test_without_bounds_it_is_the_step_of_newton():
    rng = np.random.default_rng(5)
    p, b = made(rng, 8, 4, 3)
    g, free = jnp.asarray(rng.normal(size=8)), jnp.full(8, jnp.inf)
    want = -np.linalg.solve(b, g)
    at = jnp.zeros(8), g, -free, free
    np.testing.assert_allclose(held_step(p, *at), want, rtol=1e-9)
    # It is taken as it comes where it is between the bounds, and only there.
    given = jnp.asarray(want) + 1e-6
    np.testing.assert_array_equal(bounded_step(p, given, *at), given)
    less = free.at[3].set(0.5 * jnp.abs(given[3]))
    near = *at[:2], -less, less
    np.testing.assert_allclose(bounded_step(p, given, *near), held_step(p, *near), rtol=1e-9)
    none = made(rng, 8, 4, 0)[0]
    np.testing.assert_allclose(bounded_step(none, given, *at), held_step(none, *at), rtol=1e-9)
