"""Norms in one look, as GPUs take them, and in two, as CPUs do: any size of entry, any layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jopt.base import doubles
from jopt.numerics import all_finite, global_norm, global_norms, norm, scaled_norm, scaled_norms
from jopt.numerics.norms import scaled_matrix_norms
from jopt.numerics.pieces import ALIKE, BLOCKS, LONG, ROWS, SMALL, in_pieces

SIZES = np.float32([2.0**k for k in (100, 65, 0, -40, -66, -100, -122)])


def draw(shape):
    """Whole numbers, whose squares add up to the same in any order: a GPU's is not a CPU's."""
    return np.random.default_rng(0).integers(-3, 4, shape).astype(np.float64)


@pytest.fixture(params=["cpu", "default"])
def look(request, monkeypatch):
    """One platform's way of everything that depends on it."""

    def chosen(*xs, **ways):
        return ways[request.param](*xs)

    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    jax.clear_caches()  # of the programs of the other way
    yield request.param
    jax.clear_caches()


def float64(xs):
    return np.linalg.norm(np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in xs]))


def unit():
    shapes = [(3, SMALL // 2), (40, 4096), (7,), (), (0,), (SMALL + 1,)]
    return [jnp.asarray(draw(s), jnp.float32) for s in shapes]


@pytest.mark.usefixtures("look")
def test_lists_are_measured_side_by_side_each_in_its_range():
    scales = {"large": 2.0**100, "ordinary": 1.0, "small": 2.0**-100, "none": 0.0}
    lists = [[x * scale for x in reversed(unit())] for scale in scales.values()]
    lists[1] = [x.astype(jnp.bfloat16) for x in lists[1]]
    for found, xs in zip(jax.jit(global_norms)(lists), lists, strict=True):
        np.testing.assert_allclose(found, float64(xs), rtol=1e-6)
    lists[1][4] = lists[1][4].at[0, 0].set(jnp.inf)
    found = global_norms(lists)
    assert [bool(jnp.isfinite(x)) for x in found] == [True, False, True, True]


@pytest.mark.usefixtures("look")
def test_norms_of_every_size_and_of_sizes_side_by_side():
    xs, run = unit(), jax.jit(scaled_norm)
    mixed = [x * s for x, s in zip(xs, SIZES, strict=False)]
    for scaled in ([[x * s for x in xs] for s in SIZES], [mixed, mixed[::-1], mixed[3:]]):
        for some in scaled:
            factor, found = run(some)
            assert float(found) / float(factor) == pytest.approx(float64(some), rel=1e-6)
    assert run(xs)[0] == 1
    assert run([x * 0 for x in xs])[1] == 0


@pytest.mark.usefixtures("look")
def test_each_alone_and_each_matrix_alone():
    xs = [jnp.asarray(draw((3, 5)) * s, jnp.float32) for s in SIZES]
    large = [jnp.asarray(draw((40, 4096)) * s, jnp.float32) for s in SIZES[::3]]
    every = [*large, *xs, large[0].ravel()]
    for f, n, x in zip(*jax.jit(scaled_norms)(every), every, strict=True):
        assert float(n) / float(f) == pytest.approx(float64([x]), rel=1e-6)
    factors, norms = jax.jit(scaled_matrix_norms)(jnp.stack(xs))
    assert factors.shape == norms.shape == (len(xs), 1, 1)
    for f, n, x in zip(factors, norms, xs, strict=True):
        assert float(n[0, 0]) / float(f[0, 0]) == pytest.approx(float64([x]), rel=1e-6)
    assert scaled_norms([]) == ([], [])


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize(
    ("bad", "want"), [([np.inf, 1], np.inf), ([-np.inf, 1e-30], np.inf), ([np.nan, 3e38], np.nan)]
)
def test_entries_that_are_not_finite_show(bad, want):
    xs = [jnp.asarray(bad, jnp.float32), jnp.ones((2, SMALL))]
    np.testing.assert_equal(np.asarray(global_norm(xs)), np.float32(want))
    np.testing.assert_equal(np.asarray(norm(xs[0])), np.float32(want))
    assert not all_finite(xs)
    assert all_finite([jnp.asarray([3e38, 1e-38]), *xs[1:]])


@pytest.mark.usefixtures("look")
def test_derivatives_of_first_and_second_order_in_both_modes():
    x = np.float64([3.0, -4.0, 12.0]) / 13
    v = np.float64([1.0, 2.0, -1.0])
    grad = jax.jit(jax.grad(lambda x: global_norm([x, jnp.zeros(2)])))
    forward = jax.jit(lambda x, v: jax.jvp(norm, (x,), (v,))[1])
    second = jax.jit(lambda x, v: jax.jvp(jax.grad(norm), (x,), (v,))[1])
    for s in np.float32([1e30, 1.0, 1e-12]):
        at = jnp.asarray(x * s, jnp.float32)
        np.testing.assert_allclose(grad(at), x, rtol=2e-6)
        np.testing.assert_allclose(forward(at, jnp.asarray(v, jnp.float32)), x @ v, rtol=2e-6)
        want = v - x * (x @ v)
        found = second(at, jnp.asarray(v * s, jnp.float32))
        np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(grad(jnp.zeros(3)), np.zeros(3))


@pytest.mark.usefixtures("look")
def test_runs_side_by_side_have_each_their_own_range():
    xs = jnp.asarray(draw((len(SIZES), 2, 3)), jnp.float32) * SIZES[:, None, None]
    factors, norms = jax.jit(jax.vmap(lambda x: scaled_norm([x])))(xs)
    for x, f, n in zip(xs, factors, norms, strict=True):
        assert float(n) / float(f) == pytest.approx(float64([x]), rel=1e-6)


@pytest.mark.usefixtures("look", "x64")
def test_dtypes():
    x = draw(5)
    for s in (1e200, 1.0, 1e-200):
        assert float(global_norm([jnp.asarray(x * s)])) == pytest.approx(
            float64([x]) * s, rel=1e-14
        )
    for s in (1e30, 1e-30):
        narrow = jnp.asarray(x * s, jnp.bfloat16)
        assert float(norm(narrow)) == pytest.approx(float64([narrow]), rel=1e-6)
        pair = jnp.asarray(x * s * (1 + 2j), jnp.complex64)
        assert float(norm(pair)) == pytest.approx(float64([x * s]) * 5**0.5, rel=1e-6)


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("axis", [AxisType.Auto, AxisType.Explicit], ids=lambda a: a.name)
def test_split_over_devices(axis):
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(axis, axis))
    xs = [jnp.asarray(draw(s), jnp.float32) for s in ((64, 2048), (8, 4))]
    run = jax.jit(lambda xs: (*scaled_norm(xs), all_finite(xs), *scaled_norms(xs)[1]))
    for spec in (PartitionSpec("a", "b"), PartitionSpec(None, ("a", "b"))):
        for s in SIZES[[0, 2, 5]]:
            placed = [jax.device_put(x * s, NamedSharding(mesh, spec)) for x in xs[:1]]
            placed.append(jax.device_put(xs[1] * s, NamedSharding(mesh, PartitionSpec("a"))))
            with jax.set_mesh(mesh):
                factor, found, finite, *each = run(placed)
            assert float(found) / float(factor) == pytest.approx(float64(placed), rel=1e-6)
            assert bool(finite)
            for n, x in zip(each, placed, strict=True):
                assert float(n) / float(factor) == pytest.approx(float64([x]), rel=1e-6)


def test_pieces_are_of_whole_rows_and_every_entry_counts_once():
    shapes = [(24, 3072), (50, 7, 300), (3, SMALL), (70_000,), (70_000, 1), (2, 3), (1, 65_537, 2)]
    shapes += [(5,)] * 5
    xs = [jnp.asarray(draw(s), jnp.float32) for s in shapes]
    for cut in (ROWS, BLOCKS, ALIKE, LONG):
        low, high = in_pieces([(x,) for x in xs], [jnp.abs, lambda x: -x], jnp.max, cut)
        assert low == max(np.abs(x).max() for x in xs)
        assert high == max(-np.min(x) for x in xs)
    text = jax.make_jaxpr(lambda x: in_pieces([(x,)], [jnp.abs], jnp.max, BLOCKS))(
        jnp.ones((96, 768))
    )
    assert "12,8,768" in str(text)


def test_a_cpu_reads_each_array_once_whatever_its_numbers():
    xs = [jnp.full((300, 300), 1e30), jnp.full(7, 1e-30)]
    lowered = jax.jit(scaled_norm).lower(xs)
    # A loop would be a second look.
    assert "while" not in lowered.as_text()
    assert "xf64" in lowered.as_text()
    assert [x.dtype for x in jax.tree.leaves(lowered.out_info)] == [jnp.float32] * 2
    with doubles():
        assert "while" in jax.jit(scaled_norm).lower([jnp.ones(9, jnp.float64)]).as_text()
