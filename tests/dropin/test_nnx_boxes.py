"""nnx variables that say how they are split: slots carry what their variable says."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.core.helpers import same
from tests.dropin.common import NO_DECAY


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        split = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("data", "model"))
        ones = nnx.with_partitioning(nnx.initializers.ones, ("model",))
        # What an optimizer keeps for this one is split otherwise.
        apart = nnx.with_metadata(nnx.initializers.ones, optimizer_sharding=("model", None))
        self.first = nnx.Linear(8, 8, rngs=rngs, kernel_init=split, bias_init=ones)
        self.last = nnx.Linear(8, 2, rngs=rngs, kernel_init=apart)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


def mesh_of():
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


@nnx.jit
def train(model, optimizer):
    def loss(model):
        return jnp.mean(model(jnp.ones((4, 8))) ** 2)

    optimizer.update(model, nnx.grad(loss)(model))


def sharded(tx):
    """A model and its optimizer, by the recipe of flax's guide."""

    @nnx.jit
    def create():
        model = Net()
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        state = nnx.state((model, optimizer))
        placed = jax.lax.with_sharding_constraint(state, nnx.get_partition_spec(state))
        nnx.update((model, optimizer), placed)
        return model, optimizer

    return create()


def told(optimizer):
    return nnx.to_pure_dict(nnx.get_partition_spec(nnx.state(optimizer)))["opt_state"]


def held(optimizer):
    arrays = nnx.to_pure_dict(nnx.state(optimizer))["opt_state"]
    return jax.tree.map(lambda x: x.sharding, arrays)


def test_the_specs_are_those_of_optax():
    mesh = mesh_of()
    with jax.set_mesh(mesh):
        tx = jopt.ema(jopt.accumulate(jopt.adamw(1e-2, groups=NO_DECAY), 1))
        (model, optimizer), (_, theirs) = sharded(tx), sharded(optax.adam(1e-2))
        found, mine = told(optimizer), held(optimizer)
        slots = found["accumulate"]["inner"]["adamw"]
        wanted = told(theirs)[0]["mu"]
        assert wanted["first"]["kernel"] == P("data", "model")
        assert wanted["last"]["kernel"] == P("model", None)
        averages = found["accumulate"]["sum"], found["ema"]["average"]
        assert slots["mu"] == slots["nu"] == averages[0] == averages[1] == wanted
        assert {*jax.tree.leaves(slots["hyperparams"])} == {P()}
        train(model, optimizer)
        assert told(optimizer) == found
        for now in (mine, held(optimizer)):
            for name, spec in (("kernel", P("data", "model")), ("bias", P("model"))):
                slot = now["accumulate"]["inner"]["adamw"]["nu"]["first"][name]
                assert slot.is_equivalent_to(NamedSharding(mesh, spec), len(spec))


def test_other_shapes_keep_the_axes_that_they_share():
    with jax.set_mesh(mesh_of()):
        _, optimizer = sharded(jopt.adafactor(1e-2))
        found = told(optimizer)["adafactor"]
    assert found["nu_row"]["first"]["kernel"] == P("data", None)
    assert found["nu_column"]["first"]["kernel"] == P(None, "model")
    assert found["nu"]["first"]["bias"] == P("model")
    assert found["nu_row"]["last"]["kernel"] == P("model", None)
    assert found["nu_column"]["last"]["kernel"] == P(None, None)


@pytest.mark.parametrize(
    "split", [P("a"), ("a", None), NamedSharding(mesh_of(), P("data"))], ids=str
)
def test_every_way_to_say_a_split(split):
    w = nnx.Param(jnp.ones((2, 3)), out_sharding=split, eager_sharding=False)
    rows = jopt.adafactor(0.1).init({"w": w})["adafactor"]
    name = "data" if isinstance(split, NamedSharding) else "a"
    spec = rows["nu_row"]["w"].get_metadata("out_sharding")
    assert type(spec) is type(split)
    assert tuple(getattr(spec, "spec", spec)) == (name, None)
    spec = rows["nu_column"]["w"].get_metadata("out_sharding")
    assert tuple(getattr(spec, "spec", spec)) == (None, None)


def test_without_an_optimizer_of_nnx():
    params = nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Param)
    tx = jopt.chain(optax.scale_by_adam(), jopt.sgd(0.1, momentum=0.9))
    state = tx.init(params)
    assert isinstance(state["sgd"]["momentum_buffer"]["kernel"], nnx.Param)
    assert isinstance(state["foreign"]["nu"]["bias"], nnx.Param)
    updates, after = jax.jit(tx.update)(params, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert isinstance(jopt.apply_updates(params, updates)["bias"], nnx.Param)
    # Files hold the arrays.
    pure = nnx.as_pure(after)
    data = jopt.to_bytes(after)
    assert data == jopt.to_bytes(pure)
    same(jopt.from_bytes(state, data), after)
    same(jopt.from_bytes(pure, data), pure)
