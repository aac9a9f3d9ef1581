"""A call that is one kernel gives what the function gives, also under transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import one_kernel


def pair(a, b):
    return a * jnp.sin(b), jnp.where(a > b, a, b)


in_one = one_kernel(pair)


def smaller(which, a, unused, b):
    """With an argument of no use, one of none after all, one that is passed on, and a `None`."""
    smallest = jax.jit(lambda x, y: x)(jnp.minimum(a, b["b"]), unused)
    return b["c"], {"x": smallest, "none": which, "y": b["c"] * a}


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
    assert one.count(" call(") == 1
    assert "xla_cpu_small_call" in one
    assert "xla_cpu_small_call" not in many


@pytest.mark.parametrize("derive", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", [(), (0,), (3,)])
def test_what_it_does_not_use_does_no_harm(derive, shape):
    def call(f):
        def given(a, x, b, c):
            return f(None, a, x, {"b": b, "c": c})

        run = (lambda *x: jax.jvp(given, x, x)) if derive else given
        return jax.jit(lambda n, *x: jax.lax.fori_loop(0, n, lambda i, _: run(*x), run(*x)))

    args = 2, 1.0, 2.0, 3.0, jnp.ones(shape)
    found, want = call(one_kernel(smaller))(*args), call(smaller)(*args)
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
        np.testing.assert_array_equal(a, b)
