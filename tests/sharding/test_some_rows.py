"""Rules that hand on some rows of a matrix alone: what moves, and that nothing else changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt.core.some_rows import SomeRows
from jopt.core.vocabulary import RATE
from jopt.numerics import largest, marked, not_zero, put_back, taken
from tests.benchmarks.on_mesh import cost, laid, step
from tests.sharding.meshes import AUTO, EXPLICIT

RNG = np.random.default_rng(0)
SHAPES = {"wide": (8, 16), "tall": (16, 8), "layers": (6, 8, 16)}


def normal(shape):
    return RNG.normal(size=shape).astype(np.float32)


def with_zeros(shape):
    """Matrices some rows and columns of which, more than are left out, have nothing in them."""
    x = normal(shape)
    x[..., 1::2, :] = x[..., :, 1::2] = 0
    return x


@pytest.mark.parametrize(
    ("kind", "split"),
    [
        (EXPLICIT, P("f", "t")),
        *(
            pytest.param(kind, split, marks=pytest.mark.slow)
            for kind in (EXPLICIT, AUTO)
            for split in (P("f", "t"), P(("f", "t")), P(None, ("t", "f")))
            if (kind, split) != (EXPLICIT, P("f", "t"))
        ),
    ],
    ids=str,
)
def test_a_step_moves_a_matrix_in_and_a_direction_out(kind, split):
    mesh = jax.make_mesh((2, 4), ("f", "t"), axis_types=(kind, kind))
    where = {k: NamedSharding(mesh, split) for k in SHAPES}
    where["layers"] = NamedSharding(mesh, P(None, *split))
    tx = jopt.dion2(0.1, ns_steps=2, ns_dtype="float32", fraction=0.7, axes={"layers": "l i o"})
    params = {k: np.zeros(shape, np.float32) for k, shape in SHAPES.items()}
    told = jopt.sharding.laid_out(tx, jax.device_put(params, where))
    put = functools.partial(jax.device_put, device=where)
    made = alone = None
    for make in (normal, with_zeros):
        g = {k: make(shape) for k, shape in SHAPES.items()}
        state = tx.init(params), jopt.sharding.init(told, put(params))
        alone = alone or jax.jit(tx.update).lower(g, state[0], params).compile()
        made = made or jax.jit(told.update).lower(put(g), state[1], put(params)).compile()
        want, kept = alone(g, state[0], params)
        updates, new = made(put(g), state[1], put(params))
        for name, x in want.items():
            np.testing.assert_allclose(updates[name], x, rtol=0, atol=2e-6)
            old = kept["dion2"]["momentum_buffer"][name]
            np.testing.assert_array_equal(new["dion2"]["momentum_buffer"][name], old)
    found = cost(made.as_text(), small=512)
    # One exchange each way of eight matrices, one a device, in float32.
    assert found.counts == {"all-to-all": 2}
    assert found.nbytes["all-to-all"] == 2 * 4 * 8 * 16


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 4])
def test_products_are_of_the_rows_alone(count):
    mesh = jax.make_mesh((8,), ("f",))
    params = laid(mesh, {str(i): (16, 1024) for i in range(count)}, P("f"))
    made, _ = step(jopt.dion2(0.1, ns_steps=1, fraction=0.25), params)
    found = cost(made.as_text(), small=1024)
    assert found.counts == {"all-to-all": 2}
    assert found.flops == 4 * 4**2 * 1024 + 2 * 4**3


@pytest.mark.slow
def test_rows_by_number():
    x = jnp.array([[0.0, 0, 0], [1, 0, 2], [0, 0, 0], [0, jnp.nan, 0]])[:, [0, 1, 2, 0, 1]]
    assert not_zero(x, 2).tolist() == [1, 3]
    assert not_zero(x, 3).tolist() == [0, 1, 3]
    assert not_zero(x.T, 2).tolist() == [1, 3]
    assert largest(jnp.array([1.0, 3, 3, 2, 3]), 2).tolist() == [1, 2]
    rows = jnp.array([1, 3])
    for y in (x, x.T):
        put = put_back(taken(y, rows), rows, y.shape)
        np.testing.assert_array_equal(put, y)
        np.testing.assert_array_equal(jnp.where(marked(y.shape, rows), y, 0), y)


def rule(g, s, p, h):
    x = yield SomeRows(g, jnp.arange(1), g.dtype)
    return x, {}


def test_some_rows_and_slots_of_all_do_not_go_together():
    spec = jopt.Spec("few", (RATE,), (jopt.Slot("mu", owned=True),), gives="direction", ndim=2)
    tx = jopt.matrixwise(spec, rule, lambda x, s, h: (x, {"mu": s.mu}), learning_rate=1.0)
    params = {"w": jnp.ones((2, 3))}
    with pytest.raises(jopt.ConfigError, match="the rule yields some rows"):
        tx.update(params, tx.init(params), params)


@pytest.mark.slow
def test_a_rule_of_ones_own_has_rows():
    spec = jopt.Spec("few", (RATE,), (), gives="direction", ndim=2)
    tx = jopt.matrixwise(spec, rule, lambda x, h: 2 * x, learning_rate=1.0)
    params = {"w": jnp.ones((2, 3)), "tall": jnp.ones((3, 2))}
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_array_equal(updates["w"], [[-2, -2, -2], [0, 0, 0]])
    np.testing.assert_array_equal(updates["tall"], updates["w"].T)
