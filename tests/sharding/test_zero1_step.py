"""`zero1_step`: what its program moves, and that it steps as one device does."""

import collections
import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt import TreeError

SHAPES = {"odd": (3,), "up": (8, 16), "down": (16, 8)}
COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
EXPLICIT, AUTO = AxisType.Explicit, AxisType.Auto


def loss(p, x):
    h = jnp.tanh(x @ p["up"])
    return jnp.mean(jnp.square(h @ p["down"])) + jnp.mean(x) * jnp.sum(p["odd"])


def moved(program):
    """How many collectives there are of each kind whose results are not numbers alone."""
    found = set()  # in which one that a TPU runs beside other things is told twice
    for line in program.as_text().splitlines():
        seen = COLLECTIVE.search(line)
        if seen and re.search(r"\[\d", seen[1]):
            shapes = re.sub(r"\{.*?\}", "", seen[1])
            found.add((seen[2], shapes, re.search(r"channel_id=\d+", line)[0]))
    return dict(collections.Counter(kind for kind, *_ in found))


def put(mesh, specs=None):
    specs = specs or dict.fromkeys(SHAPES, P())
    rng = np.random.default_rng(0)
    return {
        k: jax.device_put(rng.normal(size=s).astype("float32"), NamedSharding(mesh, specs[k]))
        for k, s in SHAPES.items()
    }


def begun(tx, mesh, specs=None):
    params = put(mesh, specs)
    split = jopt.sharding.zero1(tx, params, "data")
    state = jopt.sharding.init(tx, params, split)
    x = np.random.default_rng(1).normal(size=(8, 8)).astype("float32")
    batch = jax.device_put(x, NamedSharding(mesh, P("data")))
    step = jopt.sharding.zero1_step(tx, jax.value_and_grad(loss), params, "data")
    return step, params, state, batch, split


def alone(tx, steps, batch):
    params = {k: jnp.asarray(np.asarray(x)) for k, x in put(jax.make_mesh((1,), ("data",))).items()}
    state, values = tx.init(params), []

    @jax.jit
    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        return *jopt.step(tx, grads, state, params), value

    for _ in range(steps):
        params, state, value = step(params, state, np.asarray(batch))
        values.append(value)
    return params, values


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT])
def test_a_parameter_costs_one_reduce_scatter_and_one_all_gather(kind):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,), devices=jax.devices()[:4])
    tx = jopt.adamw(0.1)
    step, params, state, batch, split = begun(tx, mesh)
    program = step.lower(params, state, batch).compile()
    # The odd leaf, of which no device can have a part, is the all-reduce.
    assert moved(program) == {"reduce-scatter": 2, "all-gather": 2, "all-reduce": 1}
    values = []
    for _ in range(3):
        params, state, value = program(params, state, batch)
        values.append(value)
    want, of = alone(tx, 3, batch)
    np.testing.assert_allclose(values, of, rtol=1e-6)
    for k, x in params.items():
        np.testing.assert_allclose(x, want[k], rtol=1e-5, atol=1e-6)
    mu = state["adamw"]["mu"]["up"]
    assert mu.sharding == split["adamw"]["mu"]["up"]
    assert mu.addressable_shards[0].data.size == mu.size // 4


def test_beside_an_axis_that_splits_parameters_and_with_a_norm_of_all():
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AUTO,) * 2)
    specs = {"odd": P(), "up": P(None, "model"), "down": P("model")}
    tx = jopt.chain(jopt.clip_by_global_norm(0.1), jopt.sgd(0.5, momentum=0.9))
    step, params, state, batch, _ = begun(tx, mesh, specs)
    for _ in range(2):
        params, state, value = step(params, state, batch)
    want, of = alone(tx, 2, batch)
    np.testing.assert_allclose(value, of[-1], rtol=1e-6)
    for k, x in params.items():
        np.testing.assert_allclose(x, want[k], rtol=1e-5, atol=1e-6)
        assert x.sharding.is_equivalent_to(NamedSharding(mesh, specs[k]), x.ndim)


def test_a_parameter_that_is_split_over_the_examples_axis_is_told():
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    params = put(mesh, {"odd": P(), "up": P("data"), "down": P()})
    with pytest.raises(TreeError, match=r"split over 'data'.*\n.*up"):
        jopt.sharding.zero1_step(jopt.sgd(), jax.value_and_grad(loss), params, "data")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
def test_so_does_the_program_for_a_tpu(monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    # A program for devices that are not here goes into no cache, for nothing can load it.
    monkeypatch.setattr("jax._src.compilation_cache.is_cache_used", lambda backend: False)
    from jax.experimental import topologies

    devices = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
    mesh = Mesh(np.array(devices).reshape(4), ("data",), axis_types=(AUTO,))
    whole = NamedSharding(mesh, P())
    shapes = {"odd": (3,), "up": (512, 2048), "down": (2048, 512)}
    params = {k: jax.ShapeDtypeStruct(s, "float32", sharding=whole) for k, s in shapes.items()}
    tx = jopt.adamw(0.1)
    split = jopt.sharding.zero1(tx, params, "data", mesh)
    bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, bare),
        split,
    )
    batch = jax.ShapeDtypeStruct((64, 512), "float32", sharding=NamedSharding(mesh, P("data")))
    step = jopt.sharding.zero1_step(tx, jax.value_and_grad(loss), params, "data", mesh)
    lowered = step.trace(params, state, batch).lower(lowering_platforms=("tpu",))
    # The odd leaf again, whose all-reduce also has the value.
    assert moved(lowered.compile()) == {"reduce-scatter": 2, "all-gather": 2, "all-reduce": 1}
