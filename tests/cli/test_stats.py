"""The summary of a leaf and the gap between two, against NumPy in one piece and in float64."""

import ml_dtypes
import numpy as np
import pytest

from jopt.checkpoint.leaves import DTYPES
from jopt.cli.gaps import Gap
from jopt.cli.stats import Stats


def stats_of(array, pieces=3):
    stats = Stats()
    for piece in np.array_split(array, pieces):
        stats.add(piece)
    return stats


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_summed_up(name):
    rng = np.random.default_rng(0)
    low = 0 if "uint" in name or name in ("bool", "float8_e8m0fnu") else -1
    with np.errstate(all="ignore"):
        array = rng.integers(low, 2, 100).astype(DTYPES[name])
        wide = array.astype(np.complex128 if "complex" in name else np.float64)
    finite = wide[np.isfinite(wide)]
    stats = stats_of(array)
    assert (stats.finite, stats.nans) == (finite.size, np.isnan(wide).sum())
    assert abs(stats.mean - finite.mean()) <= 1e-15
    assert stats.abs_max == np.abs(finite).max()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_what_is_not_finite_is_counted_and_left_out(dtype):
    array = np.array([1, np.nan, 3, np.inf, -np.inf, -7, np.nan], dtype)
    found = stats_of(array).plain()
    assert found.pop("mean") == pytest.approx(-1.0, rel=1e-15)
    assert found == {"abs_max": 7.0, "nans": 2, "infs": 2}
    assert stats_of(array[1:2]).plain() == {"mean": None, "abs_max": None, "nans": 1, "infs": 0}


def test_numbers_whose_sum_overflows_have_a_mean():
    most = np.finfo(np.float64).max
    assert stats_of(np.full(9, most)).plain()["mean"] == pytest.approx(most, rel=1e-15)
    halves = np.full(3000, 65504, np.float16)
    assert stats_of(halves).mean == pytest.approx(65504, rel=1e-15)


def test_the_lowest_integer_has_a_magnitude():
    assert stats_of(np.array([-128, 127], np.int8)).abs_max == 128
    assert stats_of(np.array([-(2**63)], np.int64)).abs_max == 2.0**63


def gap_of(a, b, **options):
    gap = Gap(**options)
    for x, y in zip(np.array_split(a, 2), np.array_split(b, 2), strict=True):
        gap.add(x, y)
    return gap.differ, gap.max_abs, gap.max_rel


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_the_gap_is_that_of_float64(dtype):
    rng = np.random.default_rng(1)
    a = rng.standard_normal(50).astype(dtype)
    b = np.where(np.arange(50) % 3, a, (a.astype(np.float64) * 1.5).astype(dtype))
    x, y = a.astype(np.float64), b.astype(np.float64)
    apart = np.abs(x - y)
    relative = apart / np.maximum(np.abs(x), np.abs(y))
    assert gap_of(a, b) == (int((x != y).sum()), apart.max(), relative.max())
    for rtol, atol in ((0.4, 0.0), (0.0, 0.1), (0.2, 0.3)):
        near = apart <= np.maximum(rtol * np.maximum(np.abs(x), np.abs(y)), atol)
        assert gap_of(a, b, rtol=rtol, atol=atol)[0] == int((~near).sum())


def test_nan_equals_nan_and_no_tolerance_bridges_infinity():
    a = np.array([np.nan, np.nan, np.inf, np.inf, 0.0], np.float32)
    assert gap_of(a, a.copy()) == (0, 0.0, 0.0)
    b = np.array([np.nan, 1.0, -np.inf, 1.0, 0.0], np.float32)
    assert gap_of(a, b, rtol=1.0, atol=1e30) == (3, np.inf, np.inf)


def test_exact_compares_bits():
    a, b = np.array([0.0, np.nan, 1.0]), np.array([-0.0, -np.nan, 1.0])
    assert gap_of(a, b) == (0, 0.0, 0.0)
    assert gap_of(a, b, exact=True) == (2, 0.0, 0.0)


def test_integers_are_compared_beyond_float64():
    a = np.array([2**63 - 1, -(2**63)], np.int64)
    assert gap_of(a, np.array([2**63 - 2, -(2**63)])) == (1, 1.0, 1.0 / 2**63)
    assert gap_of(a[:1], np.array([-(2**63)]))[1] == 2.0**64 - 1
    assert gap_of(np.array([2**64 - 1], np.uint64), np.array([2**64 - 2], np.uint64))[:2] == (1, 1)


def test_numbers_of_two_dtypes_are_compared_as_numbers():
    a = np.array([1.0, 0.1], np.float32)
    differ, largest, _ = gap_of(a, a.astype(ml_dtypes.bfloat16))
    assert (differ, largest) == (1, abs(float(a[1]) - float(ml_dtypes.bfloat16(0.1))))
    assert gap_of(np.array([True, False]), np.array([1, 0])) == (0, 0.0, 0.0)
    assert gap_of(np.array([1j, 2]), np.array([1j, 2.5]))[:2] == (1, 0.5)
