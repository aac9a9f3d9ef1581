"""Blocks of eight bits as a TPU reads them: where they lie, none of them made an axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.numerics.blocks import scales, scales_of_rows, spread
from jopt.numerics.tpu_blocks import COLUMNS, maxima_of_columns, maxima_of_tiles, views


@pytest.mark.parametrize("rows", [5, 16])
@pytest.mark.parametrize("signed", [True, False])
def test_they_are_those_of_rows(signed, rows):
    x = np.random.default_rng(0).standard_normal((3, rows, 768), np.float32)
    x = x if signed else np.abs(x)
    x[1, :, ::97], x[2, 3, :256] = np.nan, 0
    want = scales(jnp.asarray(x), 256, signed)
    maxima, over = views(x.shape, 256)
    assert maxima.func is (maxima_of_columns if rows % 8 else maxima_of_tiles)
    found = scales_of_rows(jnp.asarray(x), signed, of=maxima)
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(over(found), spread(want, x.shape, 256))


@pytest.mark.parametrize("rows", [16, 12])
@pytest.mark.parametrize("length", [512, COLUMNS * 256 + 256, 700])
def test_a_tpu_makes_no_axis_of_them_where_rows_come_in_eights_or_they_are_few(rows, length):
    params = jax.ShapeDtypeStruct((rows, length), jnp.float32)
    tx = jopt.adamw(state_dtype="int8")
    traced = jax.jit(tx.update).trace(params, jax.eval_shape(tx.init, params), params)
    blocks = f"{rows}x{-(-length // 256)}x256xf32"
    seen = length % 256 == 0 and (rows % 8 == 0 or length <= COLUMNS * 256)
    assert (blocks in traced.lower(lowering_platforms=("tpu",)).as_text()) != seen
    assert blocks in traced.lower(lowering_platforms=("cuda",)).as_text()
