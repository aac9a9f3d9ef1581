"""Inside flax.training.train_state.TrainState, with a linen model."""

import flax.linen as nn
import flax.serialization
import jax
import pytest
from flax.training.train_state import TrainState

import jopt
from tests.dropin.common import TRANSFORMS, assert_identical, batch, loss_of


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm()(nn.Dense(8)(x)))
        return nn.Dense(2)(x)


NET = Net()
APPLY = NET.apply  # one object: a TrainState compares it by identity


def fresh(tx):
    params = NET.init(jax.random.key(0), batch()[0])["params"]
    return TrainState.create(apply_fn=APPLY, params=params, tx=tx)


def loss(params):
    x, y = batch()
    return loss_of(NET.apply({"params": params}, x), y)


@jax.jit
def train(train_state):
    return train_state.apply_gradients(grads=jax.grad(loss)(train_state.params))


@pytest.mark.parametrize("label", TRANSFORMS)
def test_equals_a_loop_by_hand(label):
    tx = TRANSFORMS[label]()
    train_state = fresh(tx)
    params, state = train_state.params, tx.init(train_state.params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return jopt.apply_updates(params, updates), state

    for _ in range(4):
        train_state = train(train_state)
        params, state = step(params, state)
    assert_identical((train_state.params, train_state.opt_state), (params, state))


def test_equal_transforms_share_one_compilation():
    # The transform is static in a TrainState: what hashes by its call does not recompile.
    traces = []

    @jax.jit
    def compiled(train_state):
        traces.append(1)
        return train(train_state)

    for _ in range(3):
        compiled(fresh(jopt.adamw(1e-2)))
    assert len(traces) == 1


@pytest.mark.parametrize("label", TRANSFORMS)
def test_serializes_with_the_train_state(label):
    train_state = train(train(fresh(TRANSFORMS[label]())))
    data = flax.serialization.to_bytes(train_state)
    again = flax.serialization.from_bytes(fresh(TRANSFORMS[label]()), data)
    assert_identical(again.opt_state, train_state.opt_state)
    assert_identical(train(again), train(train_state))
