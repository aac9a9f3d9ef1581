"""Small leaves of 8-bit slots, which a CPU steps as one, against each alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jopt
from jopt.core import together
from jopt.core.spec import REGISTRY
from tests.catalog import CATALOG
from tests.core.two_programs import agree, whole
from tests.laws.harness import extras

SHAPES = {"a": (64, 64), "b": (16, 512), "c": (4, 16, 128), "bias": (64,)}
RULES = [e for e in CATALOG if REGISTRY[e.name].elementwise]
QUICK = ("adamw",)
MARKED = [
    pytest.param(e, id=e.name, marks=[pytest.mark.slow] * (e.name not in QUICK)) for e in RULES
]


def tree(seed):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in SHAPES.items()}


def step_of(tx):
    return jax.jit(lambda g, s, p: jopt.step(tx, g, s, p, **extras(tx, p, g)))


def floors(params, tx=None):
    """How often a program rounds to codes: once in each kernel that encodes."""
    tx = jopt.adamw(1e-2, state_dtype="int8") if tx is None else tx
    state = jax.eval_shape(tx.init, params)
    text = step_of(tx).lower(params, state, params).as_text()
    return text.count("stablehlo.floor")


@pytest.mark.optimized  # bits of two programs are compared
@pytest.mark.parametrize("entry", MARKED)
def test_what_comes_out_is_that_of_each_alone(entry, monkeypatch):
    tx = entry.make(state_dtype="int8")
    as_one, alone = step_of(tx), step_of(tx)
    start = tree(9), tx.init(tree(9))
    for seed in range(2):  # from the same state each
        given = tree(seed), *reversed(start)
        found = as_one(*given)
        with monkeypatch.context() as m:
            m.setattr(together, "sets", lambda *_: [])
            wanted = alone(*given)
        agree(*map(whole, (found, wanted, start)), 4)
        for x, y in zip(*map(jax.tree.leaves, (found[1], wanted[1])), strict=True):
            codes = x.dtype == jnp.uint8
            assert (x == y).mean() > 0.999 if codes else True
            x, y = (np.asarray(z, np.float32) for z in (x, y))
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1 if codes else 0)
        start = wanted


def test_moments_are_encoded_once_for_all_and_large_leaves_alone():
    one = floors(tree(0))
    assert floors(tree(0) | {"more": jnp.ones((64, 256))}) == one
    assert floors({"w": jnp.ones((64, 64))}) > 0
    large = {"w": jnp.ones((512, 512)), "v": jnp.ones((512, 256))}
    assert floors(large) > floors({"w": large["w"]})


def test_leaves_of_another_group_or_on_a_mesh_go_apart():
    one = floors(tree(0))
    slow = jopt.group("a", learning_rate=1e-3)
    assert floors(tree(0), jopt.adamw(1e-2, state_dtype="int8", groups={"slow": slow})) > one
    where = NamedSharding(
        jax.make_mesh((2,), ("x",), devices=jax.devices()[:2]), PartitionSpec("x")
    )
    split = jax.device_put({k: x for k, x in tree(0).items() if k != "bias"}, where)
    assert floors(split) > one


def test_several_runs_at_once():
    tx = jopt.adamw(1e-2, state_dtype="int8")
    params = {k: tree(3)[k] for k in ("a", "b")}

    def moved(scale):
        return jopt.step(tx, jax.tree.map(lambda x: scale * x, params), tx.init(params), params)[0]

    found = jax.jit(jax.vmap(moved))(jnp.float32([1, -2]))
    wanted = jax.jit(moved)(jnp.float32(-2))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y, rtol=1e-6), found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec", [PartitionSpec("x"), PartitionSpec("x", "y"), PartitionSpec(None, "y")], ids=str
)
def test_of_many_runs_on_explicit_axes(spec):
    # There each is stepped alone: what is small within a run may be split by what numbers runs.
    tx = jopt.adamw(0.01, state_dtype="int8")
    params = {"a": jnp.ones((2, 64, 128)), "b": jnp.ones((2, 32, 256))}
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)

    def steps(params):
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(params, state, params)
            params = jopt.apply_updates(params, updates)
        return params, state

    wanted = jax.jit(jax.vmap(steps))(params)
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, NamedSharding(mesh, spec))
        found = jax.jit(jax.vmap(steps))(placed)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
