"""Lists of arrays as one vector, against one long vector of numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import vector_dot, vector_l1, vector_max
from jopt.numerics.pieces import SMALL
from jopt.numerics.vectors import TINY, Joint, in_one_array, row_dots_in_pieces, row_dots_whole

SHAPES = [(), (7,), (2, TINY), (3, 5), (0,), (SMALL + 1,), (TINY,), (TINY + 1,), (3, 2, SMALL)]


def vector(seed, rows=(), dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return [jax.random.normal(k, (*rows, *s), dtype) for k, s in zip(keys, SHAPES, strict=True)]


def flat(xs, rows=()):
    return np.concatenate([np.asarray(x, float).reshape(*rows, -1) for x in xs], axis=-1)


def test_reductions_are_those_of_one_long_vector():
    x, y = vector(0), vector(1)
    exact, scale = flat(x) @ flat(y), np.linalg.norm(flat(x)) * np.linalg.norm(flat(y))
    np.testing.assert_allclose(vector_dot(x, y), exact, rtol=0, atol=1e-7 * scale)
    np.testing.assert_allclose(vector_l1(x), np.sum(np.abs(flat(x))), rtol=1e-6)
    np.testing.assert_array_equal(vector_max(x), np.float32(np.max(np.abs(flat(x)))))
    assert vector_max([jnp.zeros(0)]) == 0


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_the_largest_is_nan_if_any_is(dtype):
    # In arrays of every size, on either side of zero, also beside infinity: in large arrays
    # XLA's own maximum has passed over NaN.
    x = [jnp.ones(s, dtype) for s in SHAPES]
    x[0] = jnp.asarray(-jnp.inf, dtype)
    assert vector_max(x) == jnp.inf
    assert vector_max(x).dtype == jnp.finfo(dtype).dtype
    for i, a in enumerate(x):
        for nan in (np.nan, -np.nan) if a.size else ():
            bad = a.at[(-1,) * a.ndim].set(nan)
            assert jnp.isnan(vector_max([*x[:i], bad, *x[i + 1 :]]))


@pytest.mark.parametrize("way", [row_dots_whole, row_dots_in_pieces])
def test_row_dots_are_those_of_a_matrix(way):
    rows, x = vector(2, (4,)), vector(3)
    exact, scale = flat(rows, (4,)) @ flat(x), np.linalg.norm(flat(x)) ** 2
    np.testing.assert_allclose(way(rows, x), exact, rtol=0, atol=1e-7 * scale)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("way", [row_dots_whole, row_dots_in_pieces])
def test_mixed_dtypes_give_the_widest(way):
    x = [jnp.ones((2, TINY), jnp.float32), jnp.ones(3, jnp.float64), jnp.ones(5, jnp.float32)]
    rows = [jnp.stack([a, 2 * a]) for a in x]
    assert way(rows, x).dtype == vector_dot(x, x).dtype == jnp.float64
    np.testing.assert_array_equal(way(rows, x), np.array([1.0, 2.0]) * (2 * TINY + 8))
    assert vector_dot(x, x) == 2 * TINY + 8


@pytest.mark.usefixtures("x64")
def test_what_is_joined_can_be_parted():
    x = [*vector(4), *vector(5, dtype=jnp.float64), *vector(6)]
    joint = Joint(x)
    fewer = joint.join(x)
    # The large ones, and one array of the tiny for each dtype.
    assert len(fewer) == 3 * sum(np.prod(s, dtype=int) > TINY for s in SHAPES) + 2
    for a, b in zip(joint.part(fewer), x, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)
    rows = [jnp.stack([a, -a]) for a in x]
    for a, b in zip(joint.join(rows, 1), fewer, strict=True):
        np.testing.assert_array_equal(a, jnp.stack([b, -b]))


def test_numbers_in_one_array_stay_what_they_are():
    assert [float(x) for x in in_one_array(jnp.float32(1.5), jnp.float32(-2.0))] == [1.5, -2.0]
