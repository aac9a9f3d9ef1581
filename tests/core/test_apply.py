"""`apply_updates`: at least float32, rounded once; `None` and integers stay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jopt
from tests.core.helpers import error

# Of float16's normal range: XLA on CPUs takes subnormal numbers for zero.
floats = st.integers(-(2**24), 2**24).map(lambda n: np.float32(n * 2**-12))
arrays = hnp.arrays(np.float32, 8, elements=floats)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@given(arrays, arrays)
def test_half_precision_is_rounded_once(dtype, p, u):
    p = jnp.asarray(p, dtype)
    after = jopt.apply_updates(p, jnp.asarray(u))
    want = (np.asarray(p, np.float32) + u).astype(jnp.dtype(dtype))
    np.testing.assert_array_equal(np.asarray(after), want)


@given(arrays, st.floats(-0.375, 0.875, width=32))
def test_a_step_to_a_nearby_parameter_lands_on_it(p, share):
    # p_new - p is exact within a factor of two (Sterbenz), so p + (p_new - p) is p_new.
    p_new = p * np.float32(1 + share)
    after = jopt.apply_updates(jnp.asarray(p), jnp.asarray(p_new - p))
    np.testing.assert_array_equal(after, p_new)


def test_none_and_integers_stay():
    params = {"a": jnp.ones(2), "b": jnp.arange(2), "c": None}
    updates = {"a": None, "b": jnp.zeros(2), "c": None}
    after = jopt.apply_updates(params, updates)
    assert after["a"] is params["a"]
    assert after["b"].dtype == params["b"].dtype
    assert after["c"] is None


def test_containers_dtypes_and_complex_numbers_are_kept():
    params = [jnp.ones(2, jnp.complex64), (np.ones(3, np.float32),)]
    after = jopt.apply_updates(params, [1j * jnp.ones(2, jnp.complex64), (jnp.ones(3),)])
    assert jax.tree.structure(after) == jax.tree.structure(params)
    np.testing.assert_array_equal(after[0], np.full(2, np.complex64(1 + 1j)))
    assert after[1][0].dtype == jnp.float32


def test_another_structure():
    with error(
        jopt.TreeError,
        """
        apply_updates: the updates have another structure than the parameters
          at:       b
          expected: a leaf
          found:    none
        """,
    ):
        jopt.apply_updates({"a": jnp.ones(1), "b": jnp.ones(1)}, {"a": jnp.ones(1)})
