"""Linen's boxes (`nn.with_partitioning`): slots carry them, names and files do not know them."""

from typing import Any

import flax.linen as nn
import flax.serialization
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.core.helpers import same
from tests.dropin.common import NO_DECAY

RULES = (("in", "data"), ("out", "model"))


class Net(nn.Module):
    wrap: Any

    @nn.compact
    def __call__(self, x):
        kernel = self.wrap(nn.initializers.lecun_normal(), ("in", "out"))
        bias = self.wrap(nn.initializers.ones, ("out",))
        x = nn.relu(nn.Dense(8, kernel_init=kernel, bias_init=bias)(x))
        return nn.Dense(2)(x)


def physical(init, names):
    return nn.with_partitioning(init, tuple(dict(RULES)[n] for n in names))


KINDS = {"mesh axes": physical, "logical axes": nn.with_logical_partitioning}
X = jnp.cos(jnp.arange(32.0)).reshape(4, 8)
SPECS = {"kernel": P("data", "model"), "bias": P("model")}


def mesh_of(kind=AxisType.Auto):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))


def sharded(tx, kind, mesh):
    """A train state, by the recipe of flax's guide."""
    net = Net(KINDS[kind])

    def init(key):
        params = net.init(key, X)["params"]
        return TrainState.create(apply_fn=net.apply, params=params, tx=tx)

    shapes = jax.eval_shape(init, jax.random.key(0))
    if kind == "logical axes":
        where = nn.logical_to_mesh_sharding(nn.get_partition_spec(shapes), mesh, RULES)
    else:
        where = nn.get_sharding(shapes, mesh)
    return jax.jit(init, out_shardings=where)(jax.random.key(0))


def specs(tree):
    """The specs of the arrays, without boxes and without Nones at their ends."""

    def one(x):
        entries = list(x.sharding.spec)
        while entries and entries[-1] is None:
            entries.pop()
        return P(*entries)

    return jax.tree.map(one, nn.meta.unbox(tree))


@pytest.mark.parametrize("kind", KINDS)
def test_slots_and_averages_are_split_as_the_parameters(kind):
    mesh = mesh_of()
    tx = jopt.ema(jopt.accumulate(jopt.adamw(1e-2, groups=NO_DECAY), 2))
    ours, theirs = sharded(tx, kind, mesh), sharded(optax.adam(1e-2), kind, mesh)
    assert specs(ours.params)["Dense_0"] == SPECS
    held = ours.opt_state["accumulate"]
    adamw, average = held["inner"]["adamw"], ours.opt_state["ema"]["average"]
    for slot in (adamw["mu"], adamw["nu"], held["sum"], average):
        assert specs(slot) == specs(ours.params) == specs(theirs.opt_state[0].mu)
        assert jax.tree.structure(slot) == jax.tree.structure(ours.params)
    assert {*jax.tree.leaves(specs([adamw["hyperparams"], adamw["count"]]))} <= {P()}

    @jax.jit
    def train(state):
        def loss(p):
            return jnp.mean(state.apply_fn({"params": p}, X) ** 2)

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    after = train(train(ours))
    assert jax.tree.structure(after) == jax.tree.structure(ours)
    assert specs(after.opt_state["accumulate"]["inner"]["adamw"]["mu"])["Dense_0"] == SPECS


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_other_shapes_keep_the_axes_that_they_share(kind):
    mesh = mesh_of(kind)
    state = sharded(jopt.adafactor(1e-2), "mesh axes", mesh)
    node = state.opt_state["adafactor"]
    assert specs(node["nu_row"])["Dense_0"]["kernel"] == P("data")
    assert specs(node["nu_column"])["Dense_0"]["kernel"] == P(None, "model")
    assert specs(node["nu"])["Dense_0"]["bias"] == P("model")
    assert node["nu_column"]["Dense_0"]["kernel"].names == (None, "model")
    history = sharded(jopt.lbfgs(history_size=3), "mesh axes", mesh).opt_state["lbfgs"]
    assert specs(history["s"])["Dense_0"]["kernel"] == P(None, "data", "model")
    assert isinstance(history["leaf_iter"]["Dense_0"]["kernel"], jax.Array)  # a scalar has no box


def boxed(value, *names):
    return nn.Partitioned(value, names)


W = jnp.sin(jnp.arange(64.0 * 512)).reshape(64, 512)
PARAMS = {"kernel": boxed(W, "data", "model"), "bias": boxed(W[0], "model"), "plain": W[1]}
PLAIN = nn.meta.unbox(PARAMS)


@pytest.mark.parametrize(
    "tx",
    [
        jopt.ema(jopt.adamw(0.1, groups=NO_DECAY, state_dtype="int8")),
        jopt.chain(optax.scale_by_adam(), jopt.route(jopt.sgd(0.1), m=("kernel$", jopt.muon(0.1)))),
    ],
    ids=["int8", "foreign"],
)
def test_boxes_change_no_number(tx):
    def run(params):
        state = tx.init(params)
        updates, state = jax.jit(tx.update)(params, state, params)
        stepped, state = jax.jit(lambda p, s: jopt.step(tx, p, s, p))(params, state)
        assert jax.tree.structure(updates) == jax.tree.structure(stepped)
        assert jax.tree.structure(stepped) == jax.tree.structure(params)
        assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
        return jopt.apply_updates(jopt.eval_params(state, params), updates), state

    (params, state), (twin, its_state) = run(PARAMS), run(PLAIN)
    assert isinstance(params["kernel"], nn.Partitioned)
    same(nn.meta.unbox(params), twin)
    same(nn.meta.unbox(state), its_state)
    # A state without boxes serves parameters in boxes, and stays without.
    updates, after = tx.update(PARAMS, tx.init(PLAIN), PARAMS)
    assert isinstance(updates["bias"], nn.Partitioned)
    assert jax.tree.structure(after) == jax.tree.structure(its_state)


def test_gradients_need_no_boxes():
    tx = jopt.sgd(0.1, momentum=0.9, skips="^bias$")
    state = tx.init(PARAMS)
    wanted, _ = tx.update(PARAMS, state, PARAMS)
    updates, _ = tx.update(PLAIN, state, PARAMS)
    same(updates, wanted)
    same(jopt.apply_updates(PARAMS, nn.meta.unbox(updates)), jopt.apply_updates(PARAMS, updates))
    same(tx.update(PARAMS, state, PLAIN)[0], nn.meta.unbox(wanted))
    updates, _ = tx.update({**PARAMS, "bias": None}, state, PARAMS)
    assert not updates["bias"].value.any()
    with pytest.raises(jopt.TreeError, match="the updates have another structure"):
        tx.update({"kernel": W, "bias": W[0]}, state, PARAMS)


def test_a_leaf_is_called_as_its_box():
    tx = jopt.adamw(0.1, groups={"b": jopt.group("^bias$", freeze=True)})
    assert "bias" not in tx.init(PARAMS)["adamw"]["mu"]
    routes = jopt.routing(jopt.route(tx, k=("kernel$", jopt.muon(0.1))), {**PARAMS})
    assert routes == {"bias": "rest", "kernel": "k", "plain": "rest"}
    with pytest.raises(jopt.TreeError, match="at:       kernel\n"):
        tx.update({**PARAMS, "kernel": boxed(W[0], "data", "model")}, tx.init(PARAMS), PARAMS)


def test_compressed_slots_are_split_as_far_as_they_are_like_the_parameter():
    mu = jopt.adamw(0.1, state_dtype="int8").init(PARAMS)["adamw"]["mu"]["kernel"]
    assert mu["signed_dynamic_256"].names == ("data", "model")
    assert (mu["scale"].names, mu["scale"].value.shape) == (("data", None), (64, 2))


def test_files_take_boxed_and_plain_alike():
    tx = jopt.ema(jopt.adamw(0.1))
    run = {"params": PARAMS, "state": tx.init(PARAMS)}
    twin = nn.meta.unbox(run)
    data = jopt.to_bytes(run, tx=tx)
    assert data == jopt.to_bytes(twin, tx=tx)
    same(jopt.from_bytes(run, data, tx=tx), run)
    same(jopt.from_bytes(twin, data, tx=tx), twin)
    same(jopt.load_state_dict(run, jopt.state_dict(twin)), run)
    bare = jopt.from_bytes(None, data)
    assert isinstance(bare["state"]["ema"]["average"]["bias"], np.ndarray)
    same(flax.serialization.from_bytes(run, flax.serialization.to_bytes(run)), run)


def test_states_are_carried_over_in_boxes():
    tx = jopt.adamw(0.1, groups={"k": jopt.group("^kernel$", weight_decay=0.0)})
    less = {"kernel": PARAMS["kernel"]}
    state, report = jopt.extend(tx, tx.init(less), PARAMS, report=True)
    assert report.fresh == {"adamw": ("bias", "plain")}
    state = state["adamw"]
    assert [state["mu"][k].names for k in ("kernel", "bias")] == [("data", "model"), ("model",)]
    assert jax.tree.structure(
        jopt.extend(tx, tx.init(nn.meta.unbox(less)), PARAMS)["adamw"]["mu"]
    ) == (jax.tree.structure(PARAMS))
    small = jopt.adamw(0.1, state_dtype="bfloat16")
    old = jopt.adamw(0.1).init(PARAMS)
    same(jopt.convert_state(small, old, PARAMS), small.init(PARAMS))


def test_state_sharding_goes_by_the_box_where_no_array_says_it():
    mesh = mesh_of()
    shapes = jax.eval_shape(lambda: PARAMS)
    tx = jopt.adafactor(0.1)
    found = jopt.sharding.state_sharding(tx, shapes, mesh)
    state = jopt.sharding.init(tx, shapes, mesh=mesh)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    mine = jax.tree.map(lambda x: NamedSharding(mesh, x), nn.get_partition_spec(state))
    assert specs(state) == jax.tree.map(lambda s: specs(_Of(s)), mine)
    logical = {"w": nn.LogicallyPartitioned(shapes["kernel"].value, ("in", "out"), rules=RULES)}
    found = jopt.sharding.state_sharding(jopt.adam(0.1), logical, mesh)
    assert found["adam"]["mu"]["w"].value.spec == P("data", "model")
    with pytest.raises(jopt.TreeError, match="a parameter's box names axes that the mesh does not"):
        jopt.sharding.state_sharding(tx, {"w": boxed(W, "data", "nowhere")}, mesh)


class _Of:
    def __init__(self, sharding):
        self.sharding = sharding


class Named(flax.struct.PyTreeNode, nn.meta.AxisMetadata):
    """A user's box, which tells its axes in a way of its own."""

    inside: Any
    of: str = flax.struct.field(pytree_node=False)

    def unbox(self):
        return self.inside

    def replace_boxed(self, val):
        return self.replace(inside=val)

    def add_axis(self, index, params):
        return self

    def remove_axis(self, index, params):
        return self


def test_a_box_of_ones_own_is_on_slots_like_the_parameter():
    params = {"w": Named(jnp.ones((2, 3)), "me"), "b": Named({"x": jnp.ones(2), "y": None}, "too")}
    state = jopt.adam(0.1, groups={"w": jopt.group("^w$")}).init(params)["adam"]
    assert (state["mu"]["w"].of, state["mu"]["b"]["x"].of) == ("me", "too")
    rows = jopt.adafactor(0.1).init(params)["adafactor"]
    assert isinstance(rows["nu_row"]["w"], jax.Array)
    assert isinstance(rows["nu"]["b"]["x"], Named)
