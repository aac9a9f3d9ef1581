"""Newton-Schulz: both orders of its arithmetic, against the iteration in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.numerics import newton_schulz
from jopt.numerics.newton_schulz import lean, plain

JORDAN = (3.4445, -4.7750, 2.0315)
near = functools.partial(lean, near=True)
ORDERS = pytest.mark.parametrize("order", [plain, lean, near], ids=["plain", "lean", "near"])
SHAPES = [(3, 48, 160), (3, 160, 48), (3, 64, 64), (2, 1, 7)]


def exact(x, coefficients=JORDAN, steps=5, eps=1e-7):
    a, b, c = coefficients
    x = np.asarray(x, np.float64)
    right = x.shape[1] > x.shape[2]
    x = x.swapaxes(1, 2) if right else x
    x = x / np.maximum(np.sqrt(np.sum(x**2, (1, 2), keepdims=True)), eps)
    for _ in range(steps):
        gram = x @ x.swapaxes(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.swapaxes(1, 2) if right else x


def run(order, x, eps=1e-7, **changes):
    settings = {
        "coefficients": JORDAN,
        "steps": 5,
        "dtype": jnp.dtype(jnp.bfloat16),
        "right": x.shape[1] > x.shape[2],
    }
    found = jax.jit(functools.partial(order, **settings | changes))(x, jnp.float32(eps))
    assert found.dtype == jnp.float32
    return np.asarray(found, np.float64)


def normal(shape, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(0).normal(size=shape), jnp.bfloat16)


def decaying(shape, least):
    """Matrices whose singular values fall from 1 to `least`."""
    u, s, v = np.linalg.svd(np.asarray(normal(shape), np.float64), full_matrices=False)
    return jnp.asarray((u * np.geomspace(1, least, s.shape[1])) @ v, jnp.bfloat16)


def error(found, want):
    """The relative error of each matrix, the largest of them."""
    norms = [np.linalg.norm(m, axis=(1, 2)) for m in (found - want, want)]
    return np.max(norms[0] / norms[1])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@ORDERS
def test_each_order_is_the_iteration_but_for_rounding(order, shape):
    # Each of five steps rounds four arrays to 8 bits: 20 roundings of at most 2⁻⁸, which
    # average out over the entries.
    x = normal(shape)
    assert error(run(order, x), exact(x)) < 8 * 2.0**-8


@pytest.mark.parametrize("least", [1e-1, 1e-4])
@pytest.mark.parametrize("shape", SHAPES[1:3], ids=str)
def test_the_lean_order_strays_no_further_than_torchs(shape, least):
    x = decaying(shape, least)
    want = exact(x)
    assert error(run(lean, x), want) < 1.25 * error(run(plain, x), want)


@pytest.mark.parametrize("shape", SHAPES[1:3], ids=str)
def test_singular_values_end_where_the_polynomial_takes_them(shape):
    values = np.linalg.svd(run(lean, decaying(shape, 0.1)), compute_uv=False)
    assert 0.66 < values.min() < values.max() < 1.23  # exactly: between 0.68 and 1.21


@ORDERS
def test_in_float32_each_order_is_the_iteration_from_either_side(order):
    x = normal((2, 12, 12))
    for right in (False, True):
        found = run(order, x, dtype=jnp.dtype(jnp.float32), right=right)
        assert error(found, exact(x)) < 2e-5


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e12])
def test_the_size_of_a_matrix_tells_only_below_epsilon(scale):
    x = normal((2, 8, 24), scale)
    for order in (plain, lean, near):
        assert error(run(order, x), exact(x)) < 8 * 2.0**-8
    assert error(run(lean, x, eps=0.0), exact(x, eps=0.0)) < 8 * 2.0**-8


def test_to_bring_matrices_near_one_first_changes_no_digit():
    x = normal((3, 48, 64)) * np.reshape([1.0, 2.0**-9, 300.0], (-1, 1, 1)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(run(near, x), run(lean, x))


def test_what_is_not_finite_leaves_other_matrices_alone():
    x = normal((4, 6, 9))
    bad = x.at[1, 2, 3].set(jnp.inf).at[3, 0, 0].set(jnp.nan)
    found = run(near, bad)
    np.testing.assert_array_equal(found[::2], run(near, x)[::2])
    assert np.isnan(found[1::2]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@ORDERS
def test_matrices_whose_squares_are_out_of_range_are_as_others(order, dtype):
    # One matrix, times powers of two: most have squares that are 0 or infinite in float32.
    scales = np.reshape([1.0, 2.0**124, 2.0**70, 2.0**-57, 2.0**-70, 2.0**-115], (-1, 1, 1))
    matrix = np.asarray(normal((6, 9)), np.float64)
    x = jnp.asarray(scales * matrix, dtype)
    found = run(order, x, eps=0.0, dtype=jnp.dtype(dtype))
    np.testing.assert_array_equal(found, np.broadcast_to(found[0], found.shape))
    bound = 2e-5 if dtype == "float32" else 8 * 2.0**-8
    want = exact(x)
    assert error(found[:3], want[:3]) < bound
    # Under ε the size tells, and what is then under the least normal number is 0 on a CPU.
    small = run(order, x, dtype=jnp.dtype(dtype))
    assert np.all(np.abs(want[3:]) < 1e-6)
    assert error(small[:5], want[:5]) < bound
    assert np.all(np.abs(small[5] - want[5]) < 1e-26)


@pytest.mark.parametrize("eps", [1e-7, 1e-30])
@ORDERS
def test_zeros_stay_zeros(order, eps):
    assert np.array_equal(run(order, jnp.zeros((2, 3, 4)), eps=eps), np.zeros((2, 3, 4)))


def dtypes_of_products(platform, dtype):
    """The dtypes that the products of a compiled program write, in turn."""
    solve = functools.partial(newton_schulz, coefficients=JORDAN, steps=1, eps=1e-7, dtype=dtype)
    traced = jax.jit(solve).trace(jnp.ones((2, 3, 4)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    lines = [line for line in text.splitlines() if "dot_general" in line]
    return [line.rsplit("x", 1)[1].rstrip(">") for line in lines]


def test_only_bfloat16_off_the_cpu_takes_the_lean_order():
    assert dtypes_of_products("cpu", "bfloat16") == ["f32"] * 3
    # The fourth is in the second look, for squares that left their range.
    for platform, products in (("cuda", 4), ("rocm", 4), ("tpu", 3)):
        assert dtypes_of_products(platform, "bfloat16") == ["bf16"] * products
        assert dtypes_of_products(platform, "float16") == ["f32"] * 3


@ORDERS
def test_derivatives_and_vmap_pass_through(order):
    x = normal((2, 3, 4)).astype(jnp.float32)
    solve = functools.partial(
        order, coefficients=JORDAN, steps=2, dtype=jnp.dtype(jnp.float32), right=False
    )
    eps = jnp.float32(1e-7)
    direction = jnp.sin(jnp.arange(24.0).reshape(2, 3, 4))
    _, slope = jax.jvp(lambda x: solve(x, eps), (x,), (direction,))
    step = 1e-4 * np.asarray(direction, np.float64)
    ends = [exact(np.asarray(x, np.float64) + d, steps=2) for d in (step, -step)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-4, rtol=1e-4, atol=1e-4)
    many = jax.vmap(lambda x: solve(x, eps))(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(many[1], solve(2 * x, eps), rtol=1e-5, atol=1e-6)
