"""The update that leads a narrow parameter to its rounded master, over all pairs of bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jopt
from jopt.wrappers.master_weights import _update as update

HALF = ("bfloat16", "float16")
N = 256
TINY = np.float32(np.finfo(np.float32).tiny)
# How near to zero, beside p, a number can have digits that no sum with p reaches.
NEAR = {"bfloat16": 2.0**-15, "float16": 2.0**-12}


@jax.jit
def taken(master, p):
    u, after = reversed(update(master, p))
    return jopt.apply_updates(p, u), after


def check(masters, params, dtype):
    """The law of `_update` for these pairs; how many masters had to give way."""
    found, after = (np.asarray(x) for x in taken(jnp.asarray(masters), jnp.asarray(params)))
    with np.errstate(over="ignore"):
        rounded = after.astype(found.dtype)  # by ml_dtypes, not by us
        wanted = masters.astype(found.dtype)
    # Whatever happens, the parameter is its master rounded. CPUs take subnormal floats for zero.
    np.testing.assert_array_equal(flushed(found), flushed(rounded))
    kept = (after == masters) | (np.isnan(after) & np.isnan(masters))
    kept |= (np.abs(after) < TINY) & (np.abs(masters) < TINY)
    np.testing.assert_array_equal(flushed(found)[kept], flushed(wanted)[kept])
    t, p = wanted[~kept].astype(np.float64), params[~kept].astype(np.float64)
    gap = np.abs(t - p)
    unreachable = ~np.isfinite(p) | (gap > np.finfo(np.float32).max) | (gap < 2.0**-100)
    close = np.abs(t) < NEAR[dtype] * np.abs(p)
    assert (close | unreachable).all(), (masters[~kept], params[~kept])
    off = np.abs(after[~kept].astype(np.float64) - t)
    assert (unreachable | (off <= 2.0**-24 * np.abs(p))).all()
    return int((~unreachable).sum())


def flushed(x):
    x = x.astype(np.float32)
    return np.where(np.abs(x) < TINY, np.float32(0), x)


def bits(kind):
    return hnp.arrays(kind, N, elements=st.integers(0, np.iinfo(kind).max))


@pytest.mark.filterwarnings("ignore:invalid value|overflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", HALF)
@settings(max_examples=60, deadline=None)
@given(pair=st.tuples(bits(np.uint32), bits(np.uint16)))
def test_any_bits(dtype, pair):
    check(pair[0].view(np.float32), pair[1].view(jnp.dtype(dtype)), dtype)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", HALF)
def test_every_parameter_and_masters_near_and_far(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(jnp.dtype(dtype))
    every = every[np.isfinite(every.astype(np.float32))]
    rng, wide = np.random.default_rng(0), every.astype(np.float32)
    draw = rng.uniform(-1, 1, (3, every.size)).astype(np.float32)
    scale = np.exp2(rng.uniform(-30, 2, every.size)).astype(np.float32)
    assert check(wide * (1 + draw[0] * scale), every, dtype) == 0 or dtype == "float16"
    # Beyond zero, and close to it: there, and only there, a master may have to give way.
    given_way = check(wide * draw[1] * scale, every, dtype)
    assert 0 < given_way < every.size / 2
    # From halves of steps, where rounding is undecided, and from their neighbours.
    ties = wide + (np.roll(wide, 1) - wide) / 2
    for masters in (ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, 2 * ties)):
        assert check(masters, every, dtype) == 0


def test_steps_of_training_never_make_a_master_give_way():
    # A hundred thousand weights through zero and around: the odd case is rare as it says.
    rng = np.random.default_rng(1)
    masters = rng.normal(size=100_000).astype(np.float32)
    params = (masters + rng.normal(size=masters.size, scale=0.01)).astype(jnp.bfloat16)
    assert check(masters, params, "bfloat16") == 0


def test_infinities():
    inf = np.float32(np.inf)
    masters = np.float32([inf, inf, 1, -inf, 3.4e38, 65520, np.nan])
    params = np.asarray([inf, 1, inf, inf, inf, 1, 1], np.float16)
    found, after = taken(jnp.asarray(masters), jnp.asarray(params))
    np.testing.assert_array_equal(found, np.float16([inf, inf, np.nan, np.nan, inf, inf, np.nan]))
    np.testing.assert_array_equal(
        after, np.float32([inf, inf, np.nan, np.nan, 3.4e38, 65520, np.nan])
    )
