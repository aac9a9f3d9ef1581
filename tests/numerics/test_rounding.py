"""Rounding to narrow dtypes: the nearest number as ml_dtypes has it, and the odds of the others."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.base import ConfigError
from jopt.numerics import is_narrow, nearest, random_bits, stochastic

HALF = ("bfloat16", "float16")
FLOAT8 = ("e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")
ALL = (*HALF, *(f"float8_{kind}" for kind in FLOAT8))
SEED = jnp.asarray([12345, 67890], jnp.uint32)


def numbers_of(dtype):
    """Every finite number of `dtype`, sorted, of which float32 holds each."""
    bits = 8 * jnp.dtype(dtype).itemsize
    every = np.arange(2**bits, dtype=np.uint32).astype(f"uint{bits}").view(jnp.dtype(dtype))
    every = every.astype(np.float32)
    return np.unique(every[np.isfinite(every)])


def around(dtype):
    """The numbers of `dtype`, the middles between them, and what is next to either."""
    own = numbers_of(dtype)
    middles = (own[1:] / 2 + own[:-1] / 2).astype(np.float32)
    others = np.float32([np.inf, -np.inf, np.nan, -0.0, 3.4e38, 65520, 1e-40, -1e-40])
    xs = np.concatenate([own, middles, others])
    with np.errstate(over="ignore"):
        return np.concatenate([xs, np.nextafter(xs, np.inf), np.nextafter(xs, -np.inf)])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("dtype", ALL)
def test_nearest_is_the_cast_of_ml_dtypes(dtype):
    xs = around(dtype)
    want = xs.astype(jnp.dtype(dtype)).astype(np.float32)
    after = nearest(jnp.asarray(xs), dtype)
    np.testing.assert_array_equal(after, want)
    signed = ~np.isnan(want)  # a NaN has none, or in some dtypes always the same
    np.testing.assert_array_equal(np.signbit(after)[signed], np.signbit(want)[signed])


@pytest.mark.parametrize("dtype", ALL)
def test_float64_rounds_once(dtype, x64):
    rng = np.random.default_rng(0)
    own = numbers_of(dtype).astype(np.float64)
    middles = (own[1:] + own[:-1]) / 2
    # So near a middle that float32 could not tell them apart.
    xs = np.concatenate([middles * (1 + 2.0**-50), middles * (1 - 2.0**-50), rng.normal(size=999)])
    below = np.clip(np.searchsorted(own, xs) - 1, 0, len(own) - 2)
    low, high = own[below], own[below + 1]
    want = np.where(xs - low < high - xs, low, high)
    np.testing.assert_array_equal(nearest(jnp.asarray(xs), dtype), want)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("wide", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ALL)
def test_numbers_of_the_dtype_never_move(dtype, wide):
    own = np.concatenate([numbers_of(dtype), [-0.0]]).astype(wide)
    for seed in jax.random.bits(jax.random.key(0), (8, 2), "uint32"):
        after = np.asarray(stochastic(jnp.asarray(own), dtype, seed), np.float32)
        np.testing.assert_array_equal(after, own)
        np.testing.assert_array_equal(np.signbit(after), np.signbit(own.astype(jnp.dtype(dtype))))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("wide", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ALL)
def test_each_result_is_one_of_the_two_neighbours(dtype, wide):
    own = numbers_of(dtype)
    share = np.random.default_rng(1).uniform(size=own.size - 1)
    xs = (own[:-1] + share * (own[1:].astype(np.float64) - own[:-1])).astype(wide)
    after = np.asarray(stochastic(jnp.asarray(xs), dtype, SEED), np.float32)
    low, high = own[:-1], own[1:]
    assert ((after == low) | (after == high)).all()
    # Each goes up with the odds `share`: within five standard deviations of their sum.
    away = (after == high).sum() - share.sum()
    assert abs(away) < 5 * np.sqrt((share * (1 - share)).sum())


# Where x stands between its neighbours, from 1 and from the spacing below the normal numbers.
SHARES = (2.0**-7, 0.1, 0.25, 0.5, 0.7, 1 - 2.0**-7)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    ("dtype", "low"),
    [
        *(("bfloat16", low) for low in (1.0, 2.0**-100, 1.5 * 2.0**120, 0.0, 37 * 2.0**-133)),
        *(("float16", low) for low in (1.0, 60000.0, 0.0, 37 * 2.0**-24)),
        *(("float8_e4m3fn", 1.0), ("float8_e5m2", 0.0)),
    ],
)
def test_the_mean_of_many_roundings_is_x(dtype, low, share, sign):
    n = 100_000
    low = np.float64(np.asarray(low, jnp.dtype(dtype)))
    one = np.asarray(low, jnp.dtype(dtype))
    # Not towards infinity, which float8_e4m3fn does not have.
    high = np.float64(np.nextafter(one, jnp.finfo(dtype).max))
    x = np.float32(low + share * (high - low))
    p = (np.float64(x) - low) / (high - low)
    after = stochastic(jnp.full(n, sign * x), dtype, SEED)
    mean = np.mean(sign * np.asarray(after, np.float64) - low) / (high - low)
    assert abs(mean - p) < 4 * np.sqrt(p * (1 - p) / n)


def test_the_odds_are_exact_for_bfloat16_not_just_near(monkeypatch):
    # Every one of the 2¹⁶ draws, in place of chance: just so many of them round up.
    draws = jnp.arange(2**16, dtype=jnp.uint32) << 16
    monkeypatch.setattr("jopt.numerics.rounding.random_bits", lambda seed, shape: draws)
    for k in (0, 1, 12345, 2**15, 2**16 - 1):
        x = jnp.full(2**16, 1 + 2.0**-7 * k / 2**16, jnp.float32)
        after = stochastic.__wrapped__(x, "bfloat16", SEED)
        assert int((after > 1).sum()) == k


@pytest.mark.parametrize("dtype", HALF)
def test_beyond_the_largest_number_rounding_is_to_the_nearest(dtype):
    top = float(jnp.finfo(dtype).max)
    xs = np.float32([top, top * (1 + 2.0**-12), top * (1 + 2.0**-8.5), np.inf, -np.inf, np.nan])
    for seed in jax.random.bits(jax.random.key(1), (20, 2)):
        after = np.asarray(stochastic(jnp.asarray(xs), dtype, seed), np.float32)
        want = np.asarray(jnp.asarray(xs).astype(dtype), np.float32)
        np.testing.assert_array_equal(after, want)


@pytest.mark.parametrize("f", [nearest, lambda x, d: stochastic(x, d, SEED)], ids=["near", "odds"])
def test_derivatives_pass_straight_through(f):
    # None of them is a bfloat16. The factors are, and so is a derivative in that dtype.
    x, factors = jnp.linspace(-3.1, 2.9, 7), jnp.arange(-3.0, 4.0)
    assert not np.any(f(x, "bfloat16").astype(jnp.float32) == x)
    grad = jax.grad(lambda x: (f(x, "bfloat16").astype(jnp.float32) * factors).sum())(x)
    np.testing.assert_array_equal(grad, factors)
    tangent = jax.jvp(lambda x: f(x, "bfloat16"), (x,), (factors,))[1]
    np.testing.assert_array_equal(tangent.astype(jnp.float32), factors)


@pytest.mark.parametrize("f", [nearest, lambda x, d: stochastic(x, d, SEED)], ids=["near", "odds"])
@pytest.mark.parametrize("dtype", ["float8_e8m0fnu", "float4_e2m1fn"])
def test_dtypes_without_sign_or_nan_are_refused(f, dtype):
    with pytest.raises(ConfigError) as error:
        f(jnp.ones(3), dtype)
    assert str(error.value) == inspect.cleandoc(
        f"""
        rounding: a dtype cannot hold what rounds to it
          expected: a dtype of negative numbers and NaN, as bfloat16 or float8_e4m3fn
          found:    {dtype}
          Keep these numbers in a wider dtype.
        """
    )


def test_random_bits_are_uniform_and_unlike_each_other():
    n = 1 << 18
    seeds = [SEED, SEED + 1, SEED.at[0].add(1), SEED.at[1].set(0), jnp.zeros(2, jnp.uint32)]
    rows = [np.asarray(random_bits(seed, (n // 64, 64))).ravel() for seed in seeds]
    for row in rows:
        # 2¹⁶ cells for the digits that bfloat16 reads; the expected χ² is their number.
        cells = np.bincount(row >> 16, minlength=2**16)
        chi2 = ((cells - n / 2**16) ** 2 / (n / 2**16)).sum()
        assert abs(chi2 - 2**16) < 5 * np.sqrt(2 * 2**16)
    units = [row / 2.0**32 - 0.5 for row in rows]
    limit = 5 / 12 / np.sqrt(n)  # five standard deviations of a mean of products
    for i, u in enumerate(units):
        for lag in (1, 2, 63, 64, 65, 1024):  # neighbours along either axis
            assert abs(np.mean(u[lag:] * u[:-lag])) < limit
        for v in units[:i]:
            for lag in (0, 1, 2, 64):  # another seed, and the same numbers moved along
                assert abs(np.mean(u[lag:] * v[: n - lag])) < limit


def test_the_bits_of_an_entry_depend_on_its_position_in_the_whole():
    whole = random_bits(SEED, (6, 5, 4))
    np.testing.assert_array_equal(random_bits(SEED, (120,)).reshape(6, 5, 4), whole)
    assert random_bits(SEED, ()).shape == ()
    assert random_bits(SEED, (0, 3)).shape == (0, 3)


def test_which_dtypes_are_narrow():
    narrow = {d for d in (*ALL, "float32", "int8", "complex64", "bool") if is_narrow(d)}
    assert narrow == set(ALL)
