"""Blocks of eight bits as a TPU reads them: columns, none of which is made an axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.numerics.blocks import COLUMNS, scales, scales_of_columns, spread, spread_over_columns


@pytest.mark.parametrize("signed", [True, False])
def test_they_are_those_of_rows(signed):
    x = np.random.default_rng(0).standard_normal((3, 5, 768), np.float32)
    x = x if signed else np.abs(x)
    x[1, :, ::97], x[2, 3, :256] = np.nan, 0
    want = scales(jnp.asarray(x), 256, signed)
    found = scales_of_columns(jnp.asarray(x), 256, signed)
    np.testing.assert_array_equal(found, want)
    each = spread_over_columns(found, x.shape, 256)
    np.testing.assert_array_equal(each, spread(want, x.shape, 256))


@pytest.mark.parametrize("length", [512, COLUMNS * 256, COLUMNS * 256 + 256, 700])
def test_a_tpu_makes_no_axis_of_them_where_they_are_few_and_whole(length):
    params = jax.ShapeDtypeStruct((16, length), jnp.float32)
    tx = jopt.adamw(state_dtype="int8")
    traced = jax.jit(tx.update).trace(params, jax.eval_shape(tx.init, params), params)
    blocks = f"16x{-(-length // 256)}x256xf32"
    whole = length % 256 == 0 and length <= COLUMNS * 256
    assert (blocks in traced.lower(lowering_platforms=("tpu",)).as_text()) != whole
    assert blocks in traced.lower(lowering_platforms=("cuda",)).as_text()
