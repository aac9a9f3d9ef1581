"""Slots of rows and of columns, which change places where a tall matrix is turned over."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.benchmarks.on_mesh import cost, laid, step
from tests.sharding.meshes import AUTO, EXPLICIT

SHAPES = {"wide": (4, 6), "tall": (6, 4), "layers": (3, 6, 4), "bias": (4,)}
SPLIT = {"wide": P(None, "f"), "tall": P("f"), "layers": P(None, None, "f"), "bias": P("f")}
AXES = {"layers": "layer i o"}


def drawn(seed):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=shape).astype(np.float32) for k, shape in SHAPES.items()}


def put(tree, kind=EXPLICIT):
    mesh = jax.make_mesh((2,), ("f",), axis_types=(kind,), devices=jax.devices()[:2])
    return jax.device_put(tree, {k: NamedSharding(mesh, SPLIT[k]) for k in tree})


def side(name, axis, other):
    return jopt.Slot(
        name,
        lambda shape, _: (shape[axis],),
        init=lambda p: jnp.arange(1.0, 1 + p.shape[axis]),
        fits=lambda shape: len(shape) == 2,
        owned=True,
        turned=other,
    )


def spec(other="columns"):
    return jopt.Spec(
        "sided",
        (jopt.Hyper("learning_rate", "[0, inf)"),),
        (side("rows", 0, other), side("columns", 1, "rows")),
        gives="direction",
    )


def rule(g, s, p, h):
    return ((yield g), {}) if g.ndim == 2 else (g, {})


def batch(x, s, h):
    """Of a matrix G: r + |G|·1 and c + 1ᵀ·|G|, and G ⊙ r·cᵀ, which may be turned over."""
    rows, columns = s.rows + jnp.sum(jnp.abs(x), 2), s.columns + jnp.sum(jnp.abs(x), 1)
    return x * rows[:, :, None] * columns[:, None, :], {"rows": rows, "columns": columns}


def sided(**said):
    return jopt.matrixwise(spec(), rule, batch, alike=True, learning_rate=0.1, axes=AXES, **said)


def plain(seeds):
    """What the slots are, and the last update, a matrix at a time."""
    kept, update = {}, {}
    for name, shape in SHAPES.items():
        r, c = 1 + np.arange(shape[-2] if shape[1:] else 0), 1 + np.arange(shape[-1])
        for seed in seeds:
            g = drawn(seed)[name]
            update[name] = -0.1 * g
            if shape[1:]:
                r, c = r + np.abs(g).sum(-1), c + np.abs(g).sum(-2)
                kept[name] = r, c
                update[name] = -0.1 * g * r[..., :, None] * c[..., None, :]
    return kept, update


@pytest.mark.parametrize(
    "kind", [None, EXPLICIT, pytest.param(AUTO, marks=pytest.mark.slow)], ids=str
)
def test_a_tall_matrix_has_its_rows_where_they_belong(kind):
    tx, own = sided(), drawn
    if kind:
        own = functools.partial(lambda seed: put(drawn(seed), kind))
        tx = jopt.sharding.owned(tx, own(0))
    state = tx.init(own(0))
    for seed in (1, 2):
        updates, state = jax.jit(tx.update)(own(seed), state, own(0))
    kept, wanted = plain((1, 2))
    for name, x in wanted.items():
        np.testing.assert_allclose(updates[name], x, rtol=1e-5)
    node = jopt.state_dict(state)["sided"]
    assert set(node["rows"]) == set(node["columns"]) == {"wide", "tall", "layers"}
    for name, (r, c) in kept.items():
        np.testing.assert_allclose(node["rows"][name], r, rtol=1e-5)
        np.testing.assert_allclose(node["columns"][name], c, rtol=1e-5)
    if not kind:
        return
    assert not state["sided"]["rows"]
    one = jopt.load_state_dict(sided().init(drawn(0)), jopt.state_dict(state))
    back = jopt.load_state_dict(tx.init(own(0)), jopt.state_dict(one))
    again = jopt.sharding.to_stacks(tx, jopt.sharding.to_leaves(state), own(0))
    for other in (back, again):
        assert jax.tree.structure(other) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, other, state)
    assert jopt.checkpoint.differences(one, state) == []
    few = {k: x for k, x in own(0).items() if k != "wide"}
    fewer = jopt.sharding.owned(sided(), few)
    grown = jopt.extend(tx, fewer.init(few), own(0))
    assert jax.tree.structure(grown) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, grown["sided"], tx.init(own(0))["sided"])


def test_slots_that_change_places_name_each_other():
    with pytest.raises(jopt.ConfigError, match="turned over"):
        jopt.matrixwise(spec("rows"), rule, batch, alike=True, learning_rate=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [EXPLICIT, AUTO], ids=str)
@pytest.mark.parametrize(
    "tx",
    [
        jopt.shampoo(0.1, axes=AXES, block_size=4, ridge=1e-3, update_every=2),
        jopt.shampoo(0.1, axes=AXES, graft=jopt.rmsprop(0.1), ridge=1e-3, method="newton"),
        jopt.kron(0.1, axes=AXES),
        jopt.kron(0.1, axes=AXES, diagonal="one", b1=None, update_probability=1.0),
    ],
    ids=["shampoo", "grafted", "kron", "diagonal"],
)
def test_steps_on_stacks_are_those_of_one_device(tx, kind):
    own = jopt.sharding.owned(tx, put(drawn(0), kind))
    states = tx.init(drawn(0)), own.init(put(drawn(0), kind))
    for seed in (1, 2, 3):
        one, a = jax.jit(tx.update)(drawn(seed), states[0], drawn(0))
        two, b = jax.jit(own.update)(put(drawn(seed), kind), states[1], put(drawn(0), kind))
        states = a, b
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    a, b = map(jopt.state_dict, states)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), a, b)
    assert jopt.checkpoint.differences(*states) == []


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["shampoo", "kron"])
def test_a_step_moves_gradient_and_direction_and_no_state(optimizer):
    mesh = jax.make_mesh((2, 4), ("f", "t"))
    shapes = {str(i): [(8, 16), (16, 8)][i % 2] for i in range(8)}
    params = laid(mesh, shapes, P("f", "t"))
    tx = jopt.sharding.owned(getattr(jopt, optimizer)(0.1), params)
    found = cost(step(tx, params)[0].as_text(), small=64)
    assert found.counts == {"all-to-all": 2}
    assert found.nbytes["all-to-all"] <= 2 * 4 * 8 * 8 * 16 / 8
