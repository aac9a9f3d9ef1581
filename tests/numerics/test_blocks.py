"""Eight-bit blocks against the published map and a slow plain version of the coding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from jopt.numerics.blocks import (
    BELOW_ONE,
    folded,
    of_blocks,
    of_codes,
    scales,
    scales_of_rows,
    spread,
    to_codes,
)
from jopt.numerics.dither import thresholds, to_bfloat16, turns, turns_at

CODE = jax.jit(to_codes, static_argnums=3)
SIGNS = pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])


def published(signed):
    """`create_dynamic_map(signed, 7, 8)`, line by line, in float64."""
    values = [0.0, 1.0]
    for i in range(7):
        ends = np.linspace(0.1, 1, (2**i if signed else 2 ** (i + 1)) + 1)
        means = 10.0 ** (i - 6) * (ends[:-1] + ends[1:]) / 2
        values += [*means, *(-means if signed else [])]
    return np.sort(values)


def sample(shape, signed, seed=0):
    """Many decades inside one block, zeros among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * np.exp(2 * rng.normal(size=shape)) * (rng.random(shape) > 0.1)
    return np.float32(x if signed else x * x)


def plain_blocks(x, block):
    """The blocks of an array, one at a time: `(index of the scale, indices of the entries)`."""
    _, length = folded(x.shape, block)
    flat = np.arange(x.size).reshape(-1, length)
    for i, row in enumerate(flat):
        for j in range(0, length, block):
            yield i * -(-length // block) + j // block, row[j : j + block]


@SIGNS
def test_the_values_are_the_published_ones(signed):
    values = np.asarray(of_codes(jnp.arange(256, dtype=jnp.uint8), signed))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, published(signed), rtol=2**-22, atol=0)
    assert {0.0, 1.0} <= set(values.tolist())
    assert -0.993 < values.min() < -0.992 if signed else values.min() == 0


@SIGNS
def test_every_code_comes_back_at_every_step_and_scale(signed):
    codes = jnp.arange(256, dtype=jnp.uint8)
    values = of_codes(codes, signed)
    for size in (1.0, 3.7e-5, 2e3, 1e-30, 1e38):
        for scale in (size, -size) if signed else (size,):
            for step in range(0, 60, 14):
                each = jnp.full(256, scale, jnp.float32)
                back = CODE(values * each, each, turns((256,), jnp.int32(step)), signed)
                np.testing.assert_array_equal(back, codes)


@SIGNS
@pytest.mark.parametrize("shape", [(4, 512), (3, 700), (5, 9, 33), (4100,), ()])
@pytest.mark.sampled
def test_against_a_plain_version(signed, shape):
    x, table = sample(shape, signed), published(signed)
    scale = scales(jnp.asarray(x), 256, signed)
    turn = turns(shape, jnp.int32(3), 5)
    codes = to_codes(jnp.asarray(x), spread(scale, shape, 256), turn, signed)
    flat, u = x.reshape(-1), np.float64(thresholds(turn)).reshape(-1)
    found, held = np.asarray(codes).reshape(-1), np.asarray(scale).reshape(-1)
    count = 0
    for k, members in plain_blocks(x, 256):
        own = np.float64(flat[members])
        top = own[np.argmax(np.abs(own))]
        assert held[k] == np.float32(top)
        y = own / top if top else own
        rank = np.interp(y, table, np.arange(256.0))
        if not signed:
            rank = np.where(y > 0, np.maximum(rank, 1), rank)
        # Dithering is away from zero: below it, ranks count down.
        zero = 127.0 if signed else 0.0
        down = y < 0
        want = np.where(
            down, zero - np.floor(zero - rank + u[members]), np.floor(rank + u[members])
        )
        want = np.clip(want, 0, 255)
        edge = np.abs(zero - rank + u[members] - np.round(zero - rank + u[members])) < 1e-4
        edge |= np.abs(rank + u[members] - np.round(rank + u[members])) < 1e-4
        np.testing.assert_array_equal(found[members][~edge], want[~edge])
        assert np.abs(found[members] - want).max() <= 1
        count += (~edge).sum()
    assert count >= 0.99 * x.size


@SIGNS
def test_signs_stay_zeros_stay_and_the_largest_is_exact(signed):
    x = sample((8, 768), signed)
    scale = scales(jnp.asarray(x), 256, signed)
    each = spread(scale, x.shape, 256)
    for step in range(5):
        codes = CODE(jnp.asarray(x), each, turns(x.shape, jnp.int32(step)), signed)
        back = np.asarray(of_codes(codes, signed) * each)
        assert (back * x >= 0).all()
        assert (back[x == 0] == 0).all()
        for _, members in plain_blocks(x, 256):
            top = members[np.argmax(np.abs(x.reshape(-1)[members]))]
            assert back.reshape(-1)[top] == x.reshape(-1)[top]


@SIGNS
def test_what_was_stored_once_is_stored_again_to_the_bit(signed):
    x = jnp.asarray(sample((8, 700), signed))
    scale = scales(x, 256, signed)
    codes = to_codes(x, spread(scale, x.shape, 256), turns(x.shape, jnp.int32(0)), signed)
    for step in range(1, 50, 15):
        back = of_codes(codes, signed) * spread(scale, x.shape, 256)
        again = scales(back, 256, signed)
        np.testing.assert_array_equal(again, scale)
        turn = turns(x.shape, jnp.int32(step))
        np.testing.assert_array_equal(CODE(back, spread(again, x.shape, 256), turn, signed), codes)


@SIGNS
def test_rounding_is_right_on_average(signed):
    # Over 4096 steps; nearest rounding would miss by up to half a cell.
    x = jnp.linspace(0, 1, 257, dtype=jnp.float32)
    at = jax.vmap(lambda step: to_codes(x, jnp.ones(257), turns((257,), step), signed))
    codes = np.asarray(jax.jit(at)(jnp.arange(4096)))
    mean = published(signed)[codes].mean(axis=0)
    # A thousandth of the widest cell: so evenly does the sequence fill [0, 1) in 4096 steps.
    np.testing.assert_allclose(mean, x, rtol=0, atol=0.9 / (64 if signed else 128) / 1000)


def test_a_mean_of_squares_is_never_rounded_to_zero():
    x = jnp.asarray([0.0, 1e-30, 1e-9, 2e-7], jnp.float32)
    at = jax.vmap(lambda step: to_codes(x, jnp.ones(4), turns((4,), step), False))
    codes = np.asarray(jax.jit(at)(jnp.arange(64)))
    assert (codes[:, 0] == 0).all()
    assert (codes[:, 1:] == 1).all()
    assert 3.2e-7 < published(False)[1] < 3.3e-7


def stored(x, signed, step=0):
    """What is stored of an array, and what comes back."""
    scale = scales(jnp.asarray(x), 256, signed)
    each = spread(scale, x.shape, 256)
    codes = CODE(jnp.asarray(x), each, turns(x.shape, jnp.int32(step)), signed)
    return np.asarray(codes), np.asarray(scale), np.asarray(of_blocks(codes, each, signed))


@SIGNS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_entry_that_is_no_number_leaves_its_neighbours_alone(signed, bad):
    x = sample((64, 1024), signed)
    x[:, 5] = 0
    codes, scale, _ = stored(x, signed)
    x[:, 5] = bad
    codes_now, scale_now, back_now = stored(x, signed)
    rest = np.arange(1024) != 5
    if signed:
        np.testing.assert_array_equal(scale_now, scale)
        np.testing.assert_array_equal(codes_now[:, rest], codes[:, rest])
        most = np.abs(scale[:, 0])
        assert (np.sign(back_now[:, 5]) == (0 if np.isnan(bad) else np.sign(bad))).all()
        assert (np.abs(back_now[:, 5]) >= (0 if np.isnan(bad) else 0.99) * most).all()
    else:
        # Where a second moment is infinite its entry rests, and has to go on doing so.
        assert (back_now[:, 5] == np.inf).all()
        assert (np.signbit(scale_now) == (np.arange(4) == 0)).all()
        far = np.abs(back_now[:, rest] - x[:, rest]).max(axis=1)
        assert (far <= 0.008 * x[:, rest].max(axis=1)).all()
        np.testing.assert_allclose(-scale_now[:, 0] * BELOW_ONE, scale[:, 0], rtol=1e-6)
        again = back_now
        for step in range(1, 40, 7):  # and what is stored again and again does not shrink
            again = stored(again, signed, step)[2]
        np.testing.assert_allclose(again, back_now, rtol=1e-5)
    assert np.isfinite(back_now[:, rest]).all()


@SIGNS
def test_the_ends_of_the_numbers(signed):
    top = np.float32(3.4028235e38)
    x = np.zeros((4, 1024), np.float32)
    x[0, :256], x[1, 3], x[1, 4], x[2, 0], x[3, 0] = top, top, np.inf, np.inf, 1e-39
    _, scale, back = stored(x, signed)
    most = np.float32(2.0**126)  # of whose reciprocal there is something left
    assert back[0, 0] == most
    np.testing.assert_allclose(back[1, 3], most * (1 if signed else BELOW_ONE), rtol=1e-6)
    assert np.isfinite(back[x < np.inf]).all()
    assert (back[1, 4], back[2, 0]) == ((most, 0) if signed else (np.inf, np.inf))
    # Below the normal numbers a signed block is zeros; unsigned, nothing above 0 becomes 0.
    assert scale[3, 0] == (0 if signed else np.finfo(np.float32).tiny)
    assert scale[0, 3] == 0


@pytest.mark.parametrize(
    ("shape", "lead", "length"),
    [
        ((), 0, 1),
        ((5,), 0, 5),
        ((4, 300), 1, 300),
        ((768, 12, 64), 1, 768),
        ((512, 512, 3, 3), 1, 4608),
        ((4096, 4), 0, 16384),
    ],
)
def test_rows_are_as_few_axes_as_hold_a_block(shape, lead, length):
    assert folded(shape, 256) == (lead, length)


def test_bfloat16_up_or_down_and_right_on_average():
    x = np.float32(np.random.default_rng(0).normal(size=300))
    x[:4] = 0.0, -0.0, np.inf, 1.5
    low = np.asarray((x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
    up = (low.view(np.uint32) + np.uint32(0x10000)).view(np.float32)
    at = jax.vmap(lambda step: to_bfloat16(jnp.asarray(x), turns((300,), step)))
    back = np.asarray(jax.jit(at)(jnp.arange(2048)), np.float32)
    assert ((back == low) | ((back == up) & (low != x))).all()
    np.testing.assert_allclose(back[:, 4:].mean(axis=0), x[4:], rtol=2e-5)
    assert np.isnan(to_bfloat16(jnp.full(3, jnp.nan), turns((3,), jnp.int32(0)))).all()


def test_bfloat16_makes_no_infinity_of_a_finite_number():
    x = jnp.asarray([3.4028235e38, -3.4028235e38, 3.39e38, jnp.inf, -jnp.inf], jnp.float32)
    at = jax.vmap(lambda step: to_bfloat16(x, turns((5,), step)))
    back = np.asarray(jax.jit(at)(jnp.arange(64)), np.float32)
    most = float(jnp.finfo(jnp.bfloat16).max)
    np.testing.assert_array_equal(back, np.tile([most, -most, most, np.inf, -np.inf], (64, 1)))


@SIGNS
def test_a_kernel_computes_the_same_on_its_tiles(signed):
    x = jnp.asarray(sample((32, 512), signed))

    def kernel(x_ref, step_ref, codes_ref, scale_ref, back_ref):
        tile = x_ref[...]
        i, j = (pl.program_id(axis).astype(jnp.uint32) for axis in range(2))
        row = jax.lax.broadcasted_iota(jnp.uint32, tile.shape, 0) + jnp.uint32(8) * i
        column = jax.lax.broadcasted_iota(jnp.uint32, tile.shape, 1) + jnp.uint32(256) * j
        turn = turns_at(row * jnp.uint32(512) + column, step_ref[0], 5)
        scale = scales_of_rows(tile, signed)[:, None]
        codes_ref[...] = to_codes(tile, scale, turn, signed)
        scale_ref[...] = scale
        back_ref[...] = of_codes(codes_ref[...], signed) * scale

    step = jnp.full(1, 3, jnp.int32)
    tile, one = pl.BlockSpec((8, 256), lambda i, j: (i, j)), pl.BlockSpec((1,), lambda i, j: (0,))
    codes, scale, back = pl.pallas_call(
        kernel,
        grid=(4, 2),
        in_specs=[tile, one],
        out_specs=[tile, pl.BlockSpec((8, 1), lambda i, j: (i, j)), tile],
        out_shape=[
            jax.ShapeDtypeStruct(x.shape, jnp.uint8),
            jax.ShapeDtypeStruct((32, 2), jnp.float32),
            jax.ShapeDtypeStruct(x.shape, jnp.float32),
        ],
        interpret=True,
    )(x, step)
    want = scales(x, 256, signed)
    each = spread(want, x.shape, 256)
    np.testing.assert_array_equal(scale, want)
    np.testing.assert_array_equal(codes, CODE(x, each, turns(x.shape, step[0], 5), signed))
    np.testing.assert_array_equal(back, of_codes(codes, signed) * each)


@SIGNS
def test_all_ways_to_a_scale_agree(signed):
    x = sample((40, 256), signed)
    x[::3, 7], x[::5, 9], x[1::7, 11] = np.nan, np.inf, -np.inf
    x[20:30] = 0
    x[25, 3], x[26, 3], x[26, 4] = -2.0, 2.0, -2.0
    one, two = (scales_of_rows(jnp.asarray(x), signed, two=two) for two in (False, True))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, scales(jnp.asarray(x), 256, signed)[:, 0])
    assert np.isfinite(one).all()
