"""A state is its own state dict: flax and orbax give it back as it was, without a target."""

import pickle

import flax.serialization
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest

import jopt
from tests.dropin.common import TRANSFORMS, assert_identical

MORE = {
    "frozen": lambda: jopt.adamw(1e-2, groups={"all": jopt.group(".", freeze=True)}),
    "some_frozen": lambda: jopt.adamw(1e-2, groups={"b": jopt.group("bias", freeze=True)}),
    "foreign": lambda: jopt.chain(optax.clip(1.0), optax.scale_by_adam(), jopt.sgd(0.1)),
    "late_leaf": lambda: jopt.adamw(1e-2, skips="bias"),
}
ALL = {**TRANSFORMS, **MORE}


def params_of():
    return {"layer": {"kernel": jnp.cos(jnp.arange(12.0)).reshape(3, 4), "bias": jnp.ones(4)}}


def grads_of(label, i):
    grads = jax.tree.map(lambda p: jnp.sin(3 * p + i), params_of())
    if label == "late_leaf" and i == 0:
        grads["layer"]["bias"] = None
    return grads


def trained(label, state=None, start=0, steps=2):
    tx, params = ALL[label](), params_of()
    state = tx.init(params) if state is None else state
    for i in range(start, start + steps):
        updates, state = tx.update(grads_of(label, i), state, params)
        params = jopt.apply_updates(params, updates)
    return updates, state


@pytest.mark.parametrize("label", ALL)
def test_its_own_state_dict(label):
    _, state = trained(label)
    assert_identical(flax.serialization.to_state_dict(state), state)
    assert_identical(flax.serialization.from_state_dict(state, state), state)


@pytest.mark.parametrize("label", ALL)
def test_bytes_with_and_without_a_target(label):
    _, state = trained(label)
    data = flax.serialization.to_bytes(state)
    assert_identical(flax.serialization.msgpack_restore(data), state)
    if label != "late_leaf":  # a fresh state of that one has no count of its own for the leaf
        assert_identical(flax.serialization.from_bytes(ALL[label]().init(params_of()), data), state)
    again = flax.serialization.from_bytes(state, data)
    assert_identical(again, state)
    assert_identical(trained(label, again, 2), trained(label, state, 2))


@pytest.mark.parametrize("label", ALL)
def test_pickle(label):
    _, state = trained(label)
    assert_identical(pickle.loads(pickle.dumps(state)), state)


@pytest.mark.parametrize("label", ALL)
def test_orbax_without_a_target(label, tmp_path):
    _, state = trained(label)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        again = checkpointer.restore(tmp_path / "state")
    assert_identical(again, state)
    assert_identical(trained(label, again, 2), trained(label, state, 2))
