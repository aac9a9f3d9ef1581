"""Norms read in pieces: the sums of the plain version, and one check of finiteness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import all_finite, global_norm, norm
from jopt.numerics.pieces import SMALL

SHAPES = [(), (0,), (7,), (3, 5), (SMALL + 1,), (2, SMALL), (3, 2, SMALL // 2), (SMALL,)]


def arrays(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    return [jax.random.normal(k, s, dtype) for k, s in zip(keys, SHAPES, strict=True)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_global_norm_is_that_of_one_long_vector(dtype):
    xs = arrays(dtype)
    wide = np.concatenate([np.asarray(x, np.complex128).ravel() for x in xs])
    np.testing.assert_allclose(global_norm(xs), np.linalg.norm(wide), rtol=1e-6)
    assert global_norm([]) == 0
    np.testing.assert_allclose(global_norm([jnp.full(3, 2.0)]), np.sqrt(12), rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_dtypes_may_be_mixed():
    xs = [jnp.ones(3, jnp.float64), jnp.ones((2, SMALL), jnp.bfloat16), jnp.ones((), jnp.float32)]
    assert global_norm(xs).dtype == jnp.float64
    np.testing.assert_allclose(global_norm(xs), np.sqrt(4 + 2 * SMALL), rtol=1e-12)


@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
@pytest.mark.parametrize("at", [0, 2, 4, 5, 6])
def test_one_bad_entry_is_found(bad, at):
    xs = arrays()
    assert all_finite(xs)
    xs[at] = xs[at].reshape(-1).at[-1].set(bad).reshape(xs[at].shape)
    assert not all_finite(xs)


def test_nothing_is_finite_and_so_is_what_overflows_only_when_squared():
    assert all_finite([])
    assert all_finite([jnp.full((2, SMALL), 1e30)])


def test_the_norm_is_differentiable():
    xs = [jnp.arange(1.0, 4.0), jnp.ones((2, SMALL))]
    for g, x in zip(jax.grad(global_norm)(xs), xs, strict=True):
        np.testing.assert_allclose(g, x / global_norm(xs), rtol=1e-6)


@pytest.mark.parametrize("size", [3e38, 1e25, 1e-21, 1e-32])
def test_norms_of_numbers_whose_squares_are_out_of_range(size):
    xs = [jnp.full(3, 0.5 * size), jnp.full((2, SMALL), size / SMALL), jnp.float32(size / 2)]
    want = np.linalg.norm(np.concatenate([np.ravel(np.float64(x)) for x in xs]))
    np.testing.assert_allclose(jax.jit(global_norm)(xs), want, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(norm)(xs[0]), 0.5 * size * np.sqrt(3), rtol=1e-6)


def test_a_norm_beyond_all_numbers_is_infinite_and_zeros_have_none():
    assert global_norm([jnp.full(4, 3e38)]) == jnp.inf
    assert global_norm([jnp.array([jnp.inf, 1.0])]) == jnp.inf
    assert jnp.isnan(global_norm([jnp.array([jnp.nan, 3e38])]))
    assert global_norm([jnp.zeros(4)]) == norm(jnp.zeros(0)) == 0


@pytest.mark.parametrize("f", [global_norm, all_finite])
def test_each_way_of_each_platform_is_told_of_the_small_arrays_as_of_one(f):
    small, large = [jnp.ones(37)] * 50, [jnp.ones((2, SMALL))] * 2
    text = str(jax.make_jaxpr(f)([*small, *large]))
    # Once where they are joined; what is there in several ways has one array of them.
    assert sum(line.count("f32[37]") for line in text.splitlines()) == 50
    np.testing.assert_allclose(
        global_norm([*small, *large]), np.sqrt(50 * 37 + 4 * SMALL), rtol=1e-6
    )
