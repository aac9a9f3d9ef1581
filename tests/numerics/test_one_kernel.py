"""A loop of one turn gives what the function gives, also under transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import one_kernel


def pair(a, b):
    return a * jnp.sin(b), jnp.where(a > b, a, b)


def in_one(a, b, yes=True):
    return one_kernel(pair, jnp.asarray(yes) & (a == a), (a, a), a, b)


def test_it_gives_what_the_function_gives_also_in_derivatives_and_batches():
    a, b = jnp.arange(1.0, 4.0), jnp.asarray([3.0, 2.0, 1.0])
    for f, g in ((pair, in_one), (jax.jacfwd(pair), jax.jacfwd(in_one))):
        np.testing.assert_allclose(jax.jit(g)(a[0], b[0]), f(a[0], b[0]), rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.vmap(g))(a, b), jax.vmap(f)(a, b), rtol=1e-6)
        one = jax.vmap(g, (0, None))(a, b[0])
        np.testing.assert_allclose(one, jax.vmap(f, (0, None))(a, b[0]), rtol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of a CPU's compiler")
def test_it_is_one_kernel_on_a_cpu_and_none_of_its_own_in_a_batch():
    one = jax.jit(in_one).lower(1.0, 2.0).compile().as_text()
    many = jax.jit(jax.vmap(in_one)).lower(jnp.ones(3), jnp.ones(3)).compile().as_text()
    assert one.count("xla_cpu_small_call") == 1
    assert " while(" not in many
