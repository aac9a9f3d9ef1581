"""Inside flax.nnx.Optimizer: groups by path, jit, extra arguments, checkpoints."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import jopt
from tests.dropin.common import NO_DECAY, TRANSFORMS, assert_identical, batch, loss_of


class Net(nnx.Module):
    def __init__(self, *, param_dtype=jnp.float32):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(4, 8, rngs=rngs, param_dtype=param_dtype)
        self.norm = nnx.LayerNorm(8, rngs=rngs, param_dtype=param_dtype)
        self.blocks = nnx.List(
            [nnx.Linear(8, 8, rngs=rngs, param_dtype=param_dtype) for _ in range(2)]
        )
        self.last = nnx.Linear(8, 2, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.first(x)))
        for block in self.blocks:
            x = nnx.relu(block(x))
        return self.last(x)


def loss(model):
    x, y = batch()
    return loss_of(model(x), y)


@nnx.jit
def train(model, optimizer):
    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads, value=value)
    return value


def by_hand(tx, steps, model):
    graph, params = nnx.split(model)
    params = nnx.to_pure_dict(params)
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        def value_of(params):
            return loss(nnx.merge(graph, nnx.State(params)))

        value, grads = jax.value_and_grad(value_of)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return jopt.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def state_of(optimizer):
    return nnx.to_pure_dict(nnx.state(optimizer))["opt_state"]


# To the bit, which programs that are optimized little do not keep where momentum is contracted.
@pytest.mark.parametrize(
    "label", [pytest.param(t, marks=[pytest.mark.slow] * (t == "chain")) for t in TRANSFORMS]
)
def test_equals_a_loop_by_hand(label):
    tx, model = TRANSFORMS[label](), Net()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(4):
        train(model, optimizer)
    params, state = by_hand(tx, 4, Net())
    assert int(optimizer.step[...]) == 4
    assert_identical(nnx.to_pure_dict(nnx.state(model)), params)
    assert_identical(state_of(optimizer), state)


def test_groups_choose_by_path():
    model = Net()
    before = nnx.to_pure_dict(nnx.state(model))
    tx = jopt.adamw(0.1, weight_decay=0.5, groups=NO_DECAY)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    zero = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    optimizer.update(model, zero)
    after = nnx.to_pure_dict(nnx.state(model))
    for path, p in jax.tree.leaves_with_path(before):
        now = after
        for key in path:
            now = now[key.key]
        kept = path[-1].key in {"bias", "scale"}
        want = p if kept else p + (p * (1 - jnp.float32(0.1) * jnp.float32(0.5)) - p)
        assert np.array_equal(now, want), path


def test_numbers_can_be_edited_between_steps():
    model = Net()
    optimizer = nnx.Optimizer(model, jopt.sgd(0.1), wrt=nnx.Param)
    train(model, optimizer)
    frozen = nnx.to_pure_dict(nnx.state(model))
    pure = nnx.as_pure(optimizer.opt_state)
    nnx.update(optimizer.opt_state, nnx.state(jopt.set_hyperparams(pure, learning_rate=0.0)))
    train(model, optimizer)
    assert_identical(nnx.to_pure_dict(nnx.state(model)), frozen)


def test_value_reaches_the_transform_that_asks_for_it():
    model = Net()
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, cooldown=0)
    tx = jopt.chain(jopt.sgd(0.0), plateau)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(6):
        value = train(model, optimizer)
    alone = plateau.init({})
    for _ in range(6):
        _, alone = plateau.update({}, alone, value=value)
    memory = nnx.as_pure(optimizer.opt_state)["foreign"]
    assert float(memory["best_value"]) == float(value)
    assert float(memory["scale"]) == float(alone.scale) < 1


def test_bfloat16_parameters_round_once():
    def run(tx):
        model = Net(param_dtype=jnp.bfloat16)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        grads = jax.tree.map(lambda p: jnp.cos(3 * p), nnx.state(model, nnx.Param))
        params = nnx.as_pure(nnx.state(model, nnx.Param))
        updates, _ = tx.update(nnx.as_pure(grads), tx.init(params), params)
        optimizer.update(model, grads)
        return nnx.as_pure(nnx.state(model)), jopt.apply_updates(params, updates)

    moved, wanted = run(jopt.adamw(1e-2))
    assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype(jnp.bfloat16)}
    assert_identical(moved, wanted)


@pytest.mark.parametrize("label", TRANSFORMS)
def test_the_optimizers_state_survives_a_checkpoint(label, tmp_path):
    model = Net()
    optimizer = nnx.Optimizer(model, TRANSFORMS[label](), wrt=nnx.Param)
    for _ in range(3):
        train(model, optimizer)
    saved = nnx.to_pure_dict(nnx.state((model, optimizer)))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", saved)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "orbax", saved)
    for again in (
        restored,
        flax.serialization.from_bytes(saved, flax.serialization.to_bytes(saved)),
    ):
        assert_identical(again, saved)
        fresh = Net()
        resumed = nnx.Optimizer(fresh, TRANSFORMS[label](), wrt=nnx.Param)
        target = nnx.state((fresh, resumed))
        nnx.replace_by_pure_dict(target, again)
        nnx.update((fresh, resumed), target)
        train(fresh, resumed)
        continued = nnx.clone((model, optimizer))
        train(*continued)
        assert_identical(
            nnx.to_pure_dict(nnx.state((fresh, resumed))),
            nnx.to_pure_dict(nnx.state(continued)),
        )
