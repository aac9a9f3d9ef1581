"""Norms and dtypes against numpy in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jopt.numerics import (
    as_complex,
    as_pairs,
    compute_dtype,
    global_norm,
    is_complex,
    norm,
    number_dtype,
    real_dtype,
    sum_of_squares,
    trusted,
    widest,
)

floats = st.integers(-(2**20), 2**20).map(lambda n: np.float32(n / 1024))
shapes = st.sampled_from([(), (3,), (2, 0), (2, 3)])  # few, for every shape compiles anew
arrays = shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=floats))


@given(st.lists(arrays, max_size=4))
def test_the_global_norm_is_that_of_all_entries(xs):
    want = np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in xs))
    assert float(global_norm([jnp.asarray(x) for x in xs])) == pytest.approx(want, rel=1e-6)
    for x in xs:
        assert float(norm(jnp.asarray(x))) == pytest.approx(np.linalg.norm(x.ravel()), rel=1e-6)


@given(arrays)
def test_complex_numbers_count_by_modulus_and_survive_as_pairs(x):
    z = jnp.asarray(x - 0.5j * x[..., ::-1] if x.ndim else x + 2j)
    assert z.dtype == jnp.complex64
    np.testing.assert_array_equal(as_complex(as_pairs(z)), z)
    want = np.sum(np.abs(np.complex128(z)) ** 2)
    assert float(sum_of_squares(z)) == pytest.approx(want, rel=1e-6)


def test_half_precision_is_summed_in_float32():
    x = jnp.full(4096, 1.0, jnp.bfloat16)  # in bfloat16 the sum would stop at 256
    assert float(sum_of_squares(x)) == 4096
    assert norm(x).dtype == jnp.float32


@pytest.mark.parametrize(
    ("dtype", "compute", "real"),
    [
        ("bfloat16", "float32", "bfloat16"),
        ("float16", "float32", "float16"),
        ("float32", "float32", "float32"),
        ("complex64", "complex64", "float32"),
    ],
)
def test_dtypes(dtype, compute, real):
    assert compute_dtype(dtype) == jnp.dtype(compute)
    assert real_dtype(dtype) == jnp.dtype(real)
    assert is_complex(dtype) == dtype.startswith("complex")


def test_numbers_are_float32_or_float64_with_x64():
    assert number_dtype() == jnp.float32
    with jax.enable_x64(True):
        assert number_dtype() == jnp.float64
        assert compute_dtype("float64") == jnp.float64


def test_the_widest_holds_all():
    assert widest("bfloat16", "float16") == jnp.float32
    assert widest("float16", "complex64") == jnp.complex64
    assert widest("bfloat16") == jnp.bfloat16


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e25, 1e37])
def test_a_trusted_direction_is_as_long_as_the_parameter_whatever_its_size(size):
    p, d = jnp.asarray([3.0, 4.0]), jnp.asarray([0.6, -0.8])
    run = jax.jit(lambda p, d, **bounds: trusted(d, p, d, coefficient=0.1, **bounds))
    np.testing.assert_allclose(run(p, size * d), 0.5 * d, rtol=1e-6)
    np.testing.assert_allclose(run(size * p, d), 0.5 * size * d, rtol=1e-6)
    np.testing.assert_allclose(run(p, size * d, high=2.0), 0.2 * d, rtol=1e-6)
    np.testing.assert_allclose(run(p, size * d, most=0.5 / size), 0.5 * d, rtol=1e-6)
    for zero in ((0 * p, d), (p, 0 * d)):
        np.testing.assert_array_equal(run(*zero), zero[1])
