"""`once_if` is `lax.cond`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import once_if


@pytest.mark.parametrize("condition", [True, False])
def test_once_if_is_cond_with_its_derivatives(condition):
    def by(choose):
        def f(x, w):
            done = choose(jnp.bool_(condition), lambda v: {"x": jnp.sin(v["x"] * w)}, {"x": x})
            return jnp.sum(done["x"] ** 2)

        return f

    def cond(condition, f, operand):
        return jax.lax.cond(condition, f, lambda v: v, operand)

    x, w = jnp.arange(3.0), jnp.float32(0.5)
    for call in (
        lambda f: f(x, w),
        lambda f: jax.grad(f, (0, 1))(x, w),
        lambda f: jax.jvp(f, (x, w), (x, w)),
        lambda f: jax.vmap(f, (None, 0))(x, jnp.arange(2.0)),
        lambda f: jax.jit(f)(x, w),
    ):
        found, want = call(by(once_if)), call(by(cond))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, want)


def test_a_derivative_under_jit_finds_the_integers_that_are_closed_over():
    def f(x, row):
        row = row % 3  # traced within
        done = once_if(x[0] > 0, lambda v: v.at[row].set(v[row] ** 2), x)
        return jnp.sum(done)

    x = jnp.asarray([2.0, 3.0, 4.0])
    np.testing.assert_array_equal(jax.grad(jax.jit(f))(x, 4), jnp.asarray([1.0, 6.0, 1.0]))
    np.testing.assert_array_equal(jax.grad(jax.jit(f))(-x, 4), jnp.ones(3))
