"""States are born where they live, steps keep them there, and compute what one device would."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.sharding.meshes import (
    AUTO,
    EXPLICIT,
    distance,
    equivalent,
    factored,
    host_grads,
    host_params,
    identical,
    mesh_of,
    put,
    shapes,
    shardings,
    specs,
)

KINDS = pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["auto", "explicit"])

EPS = float(np.finfo(np.float32).eps)

# Every entry of their result comes from one entry of each operand: sharding changes no bit.
ENTRYWISE = {
    "sgd": lambda: jopt.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda: jopt.adam(1e-2, weight_decay=0.1),
    "adamw": lambda: jopt.adamw(
        jopt.schedules.cosine(0.1, 100), amsgrad=True, groups={"b": jopt.group("^b$", b1=0.5)}
    ),
    "clip_by_value": lambda: jopt.chain(jopt.clip_by_value(0.5), jopt.adamw(1e-2)),
}


def stepper(tx, trace=None):
    def step(params, state, grads):
        if trace is not None:
            trace.append(1)
        updates, state = tx.update(grads, state, params)
        return jopt.apply_updates(params, updates), state

    return step


def run(tx, params, grads_of):
    step, state = jax.jit(stepper(tx)), tx.init(params)
    for i in range(3):
        params, state = step(params, state, grads_of(i))
    return params, state


@functools.cache
def whole_run(label):
    return run(ENTRYWISE[label](), host_params(), host_grads)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2, 4), AUTO), ((1, 8), AUTO), ((2, 4), EXPLICIT)],
    ids=["2x4", "1x8", "2x4-explicit"],
)
@pytest.mark.parametrize("label", ENTRYWISE)
@pytest.mark.parametrize("name", ["row", "column", "both", "joint"])
def test_sharded_equals_whole_to_the_bit(name, label, shape, kind):
    tx, mesh = ENTRYWISE[label](), mesh_of(*shape, kind)
    params, where = put(host_params(), mesh, name), shardings(mesh, name)
    wanted = jopt.sharding.state_sharding(tx, params)
    state = jopt.sharding.init(tx, params)
    trace = []
    step = jax.jit(stepper(tx, trace))
    for i in range(3):
        params, state = step(params, state, put(host_grads(i), mesh, name))
        assert equivalent(params, where)
        assert equivalent(state, wanted)
    assert len(trace) == 1
    assert identical((params, state), whole_run(label))


def test_shards_narrower_than_a_vector_register_round_their_own_way():
    # XLA compiles other loops for them, which fuse other multiply-adds.
    tx, mesh = ENTRYWISE["adamw"](), mesh_of(1, 8)

    def narrow(tree):
        return {"w": tree["w"][:, :16], "b": tree["b"][:8]}

    where = {"w": NamedSharding(mesh, P(None, "model")), "b": NamedSharding(mesh, P("model"))}
    params = jax.tree.map(jax.device_put, narrow(host_params()), where)
    state, step = jopt.sharding.init(tx, params), jax.jit(stepper(tx))
    for i in range(3):
        params, state = step(
            params, state, jax.tree.map(jax.device_put, narrow(host_grads(i)), where)
        )
    whole = run(tx, narrow(host_params()), lambda i: narrow(host_grads(i)))
    assert distance((params, state), whole) <= EPS


@KINDS
@pytest.mark.parametrize("name", ["row", "both"])
def test_reductions_over_shards_round_differently(name, kind):
    # A norm or a mean over a sharded axis is summed in another order: float32 rounding.
    mesh = mesh_of(2, 4, kind)
    drop_b = {k: v for k, v in host_params().items() if k != "b"}
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), factored())
    where = {k: v for k, v in shardings(mesh, name).items() if k != "b"}
    params = jax.tree.map(jax.device_put, drop_b, where)
    state = jopt.sharding.init(tx, params)
    wanted = jopt.sharding.state_sharding(tx, params)

    def grads_of(i):
        return {k: v for k, v in host_grads(i).items() if k != "b"}

    step = jax.jit(stepper(tx))
    for i in range(3):
        grads = jax.tree.map(jax.device_put, grads_of(i), where)
        params, state = step(params, state, grads)
        assert equivalent(params, where)
        for slot in ("m", "r", "c", "past"):
            assert equivalent(state["factored"][slot], wanted["factored"][slot])
    whole = run(tx, drop_b, grads_of)
    assert distance((params, state), whole) <= 8 * EPS


@pytest.mark.parametrize("label", ENTRYWISE)
def test_init_equals_plain_init(label):
    tx, mesh = ENTRYWISE[label](), mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    state = jopt.sharding.init(tx, params)
    assert identical(state, tx.init(host_params()))
    assert identical(state, jopt.sharding.init(tx, shapes(params)))
    wanted = jopt.sharding.state_sharding(tx, params)
    assert jax.tree.map(lambda x: x.sharding, state) == wanted


def test_no_device_holds_more_than_its_shard_and_nothing_is_transferred():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    tx = jopt.adamw(1e-3)
    with jax.transfer_guard("disallow_explicit"):
        state = jopt.sharding.init(tx, params)
    shards = state["adamw"]["mu"]["w"].addressable_shards
    assert {(s.device.id, s.data.shape) for s in shards} == {(i, (16, 16)) for i in range(8)}
    wanted = jopt.sharding.state_sharding(tx, params)
    compiled = jax.jit(tx.init, out_shardings=wanted).lower(params).compile()
    memory = compiled.memory_analysis()
    held = sum(
        int(np.prod(s.shard_shape(x.shape))) * x.dtype.itemsize
        for x, s in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True)
    )
    # XLA keeps 8 bytes a buffer for the tuple of results; no room for a whole slot besides.
    assert memory.output_size_in_bytes <= held + 8 * len(jax.tree.leaves(state))
    assert memory.temp_size_in_bytes == 0


def test_init_from_values_needs_values():
    spec = jopt.Spec("anchored", (jopt.Hyper("rate"),), (jopt.Slot("p0", init=lambda p: p),))
    tx = jopt.leafwise(spec, lambda g, s, p, h: (-h.rate * g, {"p0": s.p0}), rate=0.1)
    params = put(host_params(), mesh_of(2, 4), "both")
    assert identical(jopt.sharding.init(tx, params)["anchored"]["p0"], params)
    assert specs(jopt.sharding.state_sharding(tx, shapes(params))["anchored"]["p0"]) == specs(
        jax.tree.map(lambda p: p.sharding, params)
    )
    with pytest.raises(jopt.TreeError) as error:
        jopt.sharding.init(tx, shapes(params))
    assert str(error.value) == (
        "sharding.init: the first state of anchored depends on the parameters' values\n"
        "  expected: arrays\n"
        "  found:    shapes\n"
        "  Give the parameters themselves; state_sharding is content with shapes."
    )


def test_zero1_takes_the_first_free_dimension_that_divides():
    mesh = mesh_of(4, 2)
    leaves = {
        "plain": ((8, 3), P(), P("data")),
        "second": ((3, 8), P(), P(None, "data")),
        "taken": ((8, 8), P("model"), P("model", "data")),
        "kept": ((8, 8), P(None, "model"), P("data", "model")),
        "already": ((8, 8), P("data"), P("data")),
        "joint": ((8, 8), P(("model", "data")), P(("model", "data"))),
        "odd": ((3, 5), P(), P()),
        "full": ((8, 3), P("model"), P("model")),
        "scalar": ((), P(), P()),
        "empty": ((0, 4), P(), P(None, "data")),
    }
    params = {
        k: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for k, (shape, spec, _) in leaves.items()
    }
    found = specs(jopt.sharding.zero1(jopt.adamw(1e-3), params, "data")["adamw"])
    assert found["mu"] == found["nu"] == {k: want for k, (_, _, want) in leaves.items()}
    assert found["count"] == P()
    assert set(found["hyperparams"]["default"].values()) == {P()}


def test_zero1_of_factored_slots():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "column")
    del params["b"], params["deep"]
    found = specs(jopt.sharding.zero1(factored(), params, "data")["factored"])
    assert {k: v["w"] for k, v in found.items() if isinstance(v, dict) and "w" in v} == {
        "m": P("data", "model"),
        "r": P("data"),
        "c": P(None, "model"),
        "n": P(),
        "past": P(None, "data", "model"),
        "v": P("model"),
        "left": P(),
    }


@pytest.mark.parametrize("label", ENTRYWISE)
@pytest.mark.parametrize("name", ["replicated", "column"])
def test_zero1_steps_equal_whole_and_stay_split(name, label):
    tx, mesh = ENTRYWISE[label](), mesh_of(2, 4)
    params, where = put(host_params(), mesh, name), shardings(mesh, name)
    split = jopt.sharding.zero1(tx, params, "data")
    state = jopt.sharding.init(tx, params, split)
    trace = []
    step = jax.jit(stepper(tx, trace), out_shardings=(where, split))
    for i in range(3):
        params, state = step(params, state, put(host_grads(i), mesh, name))
        assert equivalent((params, state), (where, split))
    assert len(trace) == 1
    assert identical((params, state), whole_run(label))


def test_zero1_on_explicit_axes():
    tx, mesh = ENTRYWISE["sgd"](), mesh_of(2, 4, EXPLICIT)
    params, where = put(host_params(), mesh, "column"), shardings(mesh, "column")
    split = jopt.sharding.zero1(tx, params, "data")
    state = jopt.sharding.init(tx, params, split)
    step = jax.jit(jax.sharding.auto_axes(stepper(tx), out_sharding=(where, split)))
    with jax.set_mesh(mesh):
        for i in range(3):
            params, state = step(params, state, put(host_grads(i), mesh, "column"))
    assert equivalent((params, state), (where, split))
    # The reshards stand between operations that one device fuses.
    assert distance((params, state), whole_run("sgd")) <= 2 * EPS


def test_zero1_divides_the_memory():
    mesh = mesh_of(8, 1)
    params = put(host_params(), mesh, "replicated")
    state = jopt.sharding.init(
        jopt.adamw(1e-3), params, jopt.sharding.zero1(jopt.adamw(1e-3), params, "data")
    )
    for slot in ("mu", "nu"):
        for x in jax.tree.leaves(state["adamw"][slot]):
            assert {s.data.size * 8 for s in x.addressable_shards} == {x.size}


def test_zero1_names_the_axes_there_are():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    for tx in (jopt.adamw(1e-3), jopt.clip_by_value(1.0)):
        with pytest.raises(jopt.ConfigError) as error:
            jopt.sharding.zero1(tx, params, "replica")
        assert str(error.value) == (
            "zero1: the mesh has no axis 'replica'\n"
            "  expected: 'data', 'model'\n"
            "  found:    'replica'"
        )
