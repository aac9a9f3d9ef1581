"""Matrices of which there are fewer than devices: who works on them, and what comes of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt.core.ownership import Lie, classes_of, costs, lies_of, team_size
from jopt.numerics import Team, Work, newton_schulz_work
from jopt.numerics.newton_schulz import lean
from tests.benchmarks.on_mesh import cost, laid, step
from tests.sharding.meshes import AUTO, EXPLICIT

MUON = functools.partial(newton_schulz_work, steps=5, dtype="bfloat16")


@pytest.mark.parametrize(
    ("shape", "matrices", "devices", "size"),
    [
        ((1024, 1024), 16, 256, 16),
        ((1024, 4096), 8, 256, 32),
        ((1024, 1024), 12, 256, 16),  # 21 would do, and do not divide the devices
        ((1024, 4096), 8, 16, 2),
        ((512, 2048), 8, 256, 1),  # what a team tells each other takes longer than the products
        ((4096, 4096), 1, 256, 256),
        ((1022, 4096), 8, 256, 2),  # rows that no larger team can share out
    ],
)
def test_teams_are_as_large_as_pays(shape, matrices, devices, size):
    assert team_size(matrices, min(shape), devices, MUON(shape)) == size
    assert MUON(shape) == MUON(shape[::-1])


@pytest.mark.parametrize(
    ("shape", "matrices", "size"),
    [
        ((50304, 1024), 1, costs.IN_PLACE),
        ((1024, 50304), 16, 1),  # one each
        ((1024, 50304), 15, 1),  # in place all work on all Gram matrices
        ((1024, 16384), 1, costs.IN_PLACE),
        ((1024, 4096), 1, 16),
        ((1024, 50303), 1, 16),  # the columns do not go round
    ],
)
def test_all_work_on_a_matrix_where_it_lies_if_that_costs_least(shape, matrices, size):
    over = ("f",), ()
    lie = Lie(AbstractMesh((16,), ("f",)), ("f",), ((), *over))
    x = jax.ShapeDtypeStruct((matrices, *shape), jnp.bfloat16)
    (cls,) = classes_of([x], [lie], alike=True)
    assert costs.team_for(cls, MUON(shape), True) == size
    assert costs.team_for(cls, MUON(shape), False) == (size or 16)


def test_what_a_matrix_costs():
    work = Work(flops=1e12, nbytes=8e6, moves=3)
    assert costs.cost(work, 1) == 1e12
    byte, move = costs.FLOPS_A_BYTE, costs.FLOPS_A_MOVE
    assert costs.cost(work, 4) == 1e12 / 4 + 6e6 * byte + 3 * move
    # Two products with the matrix and one of its Gram matrix; rows of both are told.
    assert MUON((2, 3)) == (5 * (4 * 2 * 2 * 3 + 2 * 2**3), 5 * 2 * (2 * 2 + 2 * 3), 10)


def test_places_of_a_class():
    mesh = jax.make_mesh((8,), ("f",))
    x = jax.device_put(np.ones((11, 4, 8), np.float32), NamedSharding(mesh, P(None, None, "f")))
    (cls,) = classes_of([x], lies_of([x], [None]), alike=True)
    assert cls.places.tolist() == [[*range(8)], [8, 9, 10, -1, -1, -1, -1, -1]]
    by_two = cls.__class__(**{**vars(cls), "team": 2})
    assert by_two.places.tolist() == [[*range(8)], [8, 8, 9, 9, 10, 10, -1, -1]]


@pytest.fixture
def free(monkeypatch):
    """Traffic costs nothing, so that teams are as large as can be."""
    monkeypatch.setattr(costs, "FLOPS_A_BYTE", 0)
    monkeypatch.setattr(costs, "FLOPS_A_MOVE", 0)


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [
        (EXPLICIT, "muon"),
        *(
            pytest.param(kind, name, marks=pytest.mark.slow)
            for kind, name in [(AUTO, "muon"), (EXPLICIT, "normuon"), (EXPLICIT, "dion2")]
        ),
    ],
)
@pytest.mark.usefixtures("free")
def test_the_steps_of_teams_are_those_of_one_device(kind, optimizer):
    mesh = jax.make_mesh((2, 4), ("f", "t"), axis_types=(kind, kind))
    shapes = {"a": (8, 16), "b": (16, 8), "layers": (9, 8, 16), "square": (8, 8)}
    splits = {"a": P("f", "t"), "b": P("t"), "layers": P(None, "t"), "square": P("f")}
    rng = np.random.default_rng(0)
    grads = {k: rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    placed = jax.device_put(grads, {k: NamedSharding(mesh, splits[k]) for k in shapes})
    make = getattr(jopt, optimizer)
    tx = make(0.1, ns_steps=2, ns_dtype="float32", kernels="in_out", axes={"layers": "layer i o"})
    one, _ = jax.jit(tx.update)(grads, tx.init(grads), grads)
    told = jopt.sharding.laid_out(tx, placed)
    made = jax.jit(told.update).lower(placed, tx.init(placed), placed).compile()
    assert "replica_groups" in made.as_text()
    updates, _ = made(placed, tx.init(placed), placed)
    for name, x in one.items():
        np.testing.assert_allclose(updates[name], x, rtol=0, atol=2e-6)
        assert updates[name].sharding.is_equivalent_to(placed[name].sharding, x.ndim)


def test_what_work_says_is_checked(monkeypatch):
    params = laid(jax.make_mesh((8,), ("f",)), {"w": (16, 32)}, P("f"))
    tx = jopt.muon(0.1)
    monkeypatch.setattr(tx.parts["muon"], "work", lambda shape, h: 1.0)
    with pytest.raises(jopt.ConfigError, match="work does not say"):
        step(tx, params)


@pytest.mark.parametrize("count", [4, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("free")
def test_a_team_shares_the_products(count):
    mesh = jax.make_mesh((8,), ("f",))
    params = laid(mesh, {str(i): (16, 32) for i in range(count)}, P("f"))
    made, _ = step(jopt.muon(0.1, ns_steps=2), params)
    found = cost(made.as_text(), small=64)
    assert found.flops == 2 * (4 * 16**2 * 32 + 2 * 16**3) * count / 8
    assert found.counts == {"all-to-all": 2, "all-gather": 4}
    # Of each matrix and of its Gram matrix, each step.
    assert found.nbytes["all-gather"] == 2 * 2 * (16 * 16 + 16 * 32)


@pytest.mark.parametrize(
    ("scale", "right"),
    [
        (1.0, True),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in [(1.0, False), (1e18, True)]),
    ],
)
def test_the_leaner_iteration_by_a_team(scale, right):
    mesh = jax.make_mesh((8,), ("f",))
    x = jnp.asarray(scale * np.random.default_rng(0).normal(size=(4, 16, 16)), jnp.bfloat16)
    run = functools.partial(
        lean, coefficients=(3.4445, -4.775, 2.0315), steps=2, dtype=jnp.bfloat16, right=right
    )

    def mine(x):
        return run(x, jnp.float32(1e-7), team=Team(("f",), 8, 2))

    every = jnp.repeat(x, 2, axis=0)
    turn = jax.shard_map(mine, mesh=mesh, in_specs=P("f"), out_specs=P("f"), check_vma=False)
    found = jax.jit(turn)(jax.device_put(every, NamedSharding(mesh, P("f"))))
    want = jax.jit(run)(x, jnp.float32(1e-7))
    np.testing.assert_allclose(np.asarray(found)[::2], want, rtol=0, atol=2e-2)
    np.testing.assert_array_equal(np.asarray(found)[::2], np.asarray(found)[1::2])
