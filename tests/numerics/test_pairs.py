"""The step of the packed pairs is that of the two-loop recursion, in plain float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import Pairs, counted, newton_step


def two_loops(pairs, g):
    """Nocedal and Wright, 2006, algorithm 7.4."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (s @ y))
        q = q - alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        q = q * (s @ y) / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - y @ q / (s @ y))
    return -q


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("few", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_step_is_that_of_the_last_pairs(few):
    rng = np.random.default_rng(0)
    n, m = 6, 4
    half = rng.normal(size=(n, n))
    hessian = half @ half.T + np.eye(n)

    @jax.jit
    def turn(p, s, y, g, keep):
        count, last = counted(p.n, p.last, m, keep, jnp.asarray(False))
        gamma = jnp.where(keep, s @ y / jnp.sum(y**2), p.gamma)
        size, scale = jnp.maximum(1, jnp.max(jnp.abs(g))), 1 / jnp.sqrt(s @ y)
        end = jnp.stack([s, g])
        ends = end - jnp.stack([s, y]), end
        d, arrays = newton_step(Pairs(*p[:3], gamma, count, last), ends, scale, keep, size, few)
        return Pairs(*arrays, gamma, count, last), d

    pairs, kept = Pairs.none(m, jnp.zeros(n)), []
    for i in range(11):
        s, g, keep = rng.normal(size=n), rng.normal(size=n), i % 4 != 1
        kept += [(s, hessian @ s)] if keep else []
        pairs, d = turn(pairs, s, hessian @ s, g, keep)
        np.testing.assert_allclose(d, two_loops(kept[-m:], g), rtol=1e-9)
    pairs, d = turn(pairs._replace(n=jnp.int32(0), gamma=jnp.ones(())), s, hessian @ s, g, False)
    np.testing.assert_array_equal(d, -g / max(1, np.abs(g).max()))
