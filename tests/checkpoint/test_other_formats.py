"""A state is plain data: what knows nothing of jopt keeps it whole, too."""

import pickle

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import jopt
from tests.checkpoint.helpers import assert_same, params, trained, transform

STATES = {
    "chain": lambda: trained()[0],
    "scheduled": lambda: trained(jopt.sgd(jopt.schedules.linear(1.0, 0.0, 10)))[0],
    "bare": lambda: trained(jopt.sgd(0.1))[0],
    "with an empty node": lambda: {**trained()[0], "nothing": {}, "more": {"nothing": {}}},
}


@pytest.mark.parametrize("kind", STATES)
def test_flax(kind):
    state = STATES[kind]()
    data = flax.serialization.to_bytes(state)
    assert_same(flax.serialization.msgpack_restore(data), state)
    blank = jax.tree.map(np.zeros_like, state)
    assert_same(flax.serialization.from_bytes(blank, data), state)
    assert_same(flax.serialization.to_state_dict(state), state)


def test_a_file_of_flax_becomes_a_state():
    state, _ = trained()
    loaded = flax.serialization.msgpack_restore(flax.serialization.to_bytes(state))
    assert_same(jopt.load_state_dict(transform().init(params()), loaded), state)


@pytest.mark.parametrize("kind", STATES)
def test_pickle(kind):
    state = STATES[kind]()
    assert_same(pickle.loads(pickle.dumps(state)), state)


# orbax says that it reads the sharding from the files, which is what is asked of it here.
@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
@pytest.mark.parametrize("checkpointer", [ocp.StandardCheckpointer, ocp.PyTreeCheckpointer])
@pytest.mark.parametrize("kind", STATES)
def test_orbax_without_a_target(tmp_path, kind, checkpointer):
    state = STATES[kind]()
    with checkpointer() as orbax:
        for name, tree in (("device", state), ("host", jopt.state_dict(state))):
            orbax.save(tmp_path / name, tree)
            if hasattr(orbax, "wait_until_finished"):
                orbax.wait_until_finished()
            assert_same(orbax.restore(tmp_path / name), state)


def test_orbax_refuses_arrays_without_elements_and_jopt_keeps_them(tmp_path):
    # Why a whole state of a model with such a leaf cannot go to orbax.
    state = jopt.adamw().init({"w": np.zeros((0, 2), np.float32)})
    with (
        ocp.StandardCheckpointer() as orbax,
        pytest.raises(ValueError, match="Cannot save arrays with zero size"),
    ):
        orbax.save(tmp_path / "x", state)
    assert_same(jopt.from_bytes(None, jopt.to_bytes(state)), state)
