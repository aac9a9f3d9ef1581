"""`state_dtype={slot: dtype}`: single slots in fewer bits, the others as computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.checkpoint.config import configuration
from tests.core.helpers import error

PARAMS = {"w": jnp.ones((16, 256)), "b": jnp.ones(3)}
GRADS = {"w": jnp.linspace(-1.0, 2.0, 4096).reshape(16, 256), "b": jnp.arange(3.0)}
MU = jopt.adamw(1e-2, state_dtype={"mu": "bfloat16"})


def after(tx, steps=3):
    @jax.jit
    def turn(params, state):
        return jopt.step(tx, GRADS, state, params)

    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        params, state = turn(params, state)
    return params, state


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_the_named_slot_is_stored_as_if_all_were_and_the_other_as_computed(kind):
    tx = jopt.adamw(1e-2, state_dtype={"mu": kind})
    _, mixed = after(tx)
    whole, narrow = (after(jopt.adamw(1e-2, state_dtype=d))[1]["adamw"] for d in (None, kind))
    # Neither slot of Adam reads the other, so each is that of a run in which all are stored so.
    for slot, same in (("mu", narrow), ("nu", whole)):
        assert jax.tree.structure(mixed["adamw"][slot]) == jax.tree.structure(same[slot])
        jax.tree.map(np.testing.assert_array_equal, mixed["adamw"][slot], same[slot])
        of = [jax.tree.map(lambda x: x.dtype, t[slot]) for t in (mixed["adamw"], same)]
        assert of[0] == of[1]


def test_the_step_is_that_of_the_slots_as_they_are_stored():
    tx, plain = MU, jopt.adamw(1e-2)
    params, state = after(tx)
    wide = jopt.convert_state(plain, state, params)
    np.testing.assert_array_equal(
        wide["adamw"]["mu"]["w"], state["adamw"]["mu"]["w"].astype(jnp.float32)
    )
    updates, _ = tx.update(GRADS, state, params)
    jax.tree.map(np.testing.assert_array_equal, updates, plain.update(GRADS, wide, params)[0])
    back = jopt.convert_state(tx, wide, params)
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_all_slots_named_alike_are_the_word_alone_and_none_named_none():
    both = jopt.adamw(1e-2, state_dtype={"mu": "int8", "nu": "int8"}, kernel="pallas")
    word = jopt.adamw(1e-2, state_dtype="int8")
    assert configuration(both) == configuration(word)
    jax.tree.map(np.testing.assert_array_equal, both.init(PARAMS), word.init(PARAMS))
    assert configuration(jopt.adamw(1e-2, state_dtype={"mu": None})) == configuration(
        jopt.adamw(1e-2)
    )


def test_it_prints_compares_and_is_recorded():
    assert repr(MU) == "jopt.adamw(learning_rate=0.01, state_dtype={'mu': 'bfloat16'})"
    assert jopt.adamw(1e-2, state_dtype={"mu": "bfloat16"}) == MU
    assert hash(MU) == hash(jopt.adamw(1e-2, state_dtype={"mu": "bfloat16"}))
    assert jopt.adamw(1e-2, state_dtype={"nu": "bfloat16"}) != MU
    said = configuration(MU)["adamw"]["storage"]
    assert said == {
        "by_slot": {"mu": {"dtype": "bfloat16", "whole_under": 4096}},
        "whole": [],
    }


def test_a_file_comes_back_and_another_storage_is_told_of(tmp_path):
    _, state = after(MU)
    jopt.save(tmp_path / "s.jopt", state, tx=MU)
    found = jopt.load(tmp_path / "s.jopt", like=state, tx=MU)
    jax.tree.map(np.testing.assert_array_equal, found, state)
    with pytest.raises(jopt.CheckpointError, match="another configuration") as caught:
        jopt.load(tmp_path / "s.jopt", like=state, tx=jopt.adamw(1e-2, state_dtype="bfloat16"))
    assert "jopt.convert_state" in str(caught.value)


def test_the_recipe_gives_each_optimizer_its_own_slots():
    tx = jopt.recipes.muon_adamw(state_dtype={"momentum_buffer": "bfloat16", "nu": "int8"})
    params = {"mlp": {"kernel": jnp.ones((64, 64))}, "embed": {"w": jnp.ones((64, 64))}}
    inner = tx.init(params)["route"]["inner"]
    assert inner["muon"]["momentum_buffer"]["mlp"]["kernel"].dtype == jnp.bfloat16
    assert inner["adamw"]["mu"]["embed"]["w"].dtype == jnp.float32
    assert set(inner["adamw"]["nu"]["embed"]["w"]) == {"unsigned_dynamic_256", "scale"}
    with pytest.raises(jopt.ConfigError, match="a slot that there is not: 'm'"):
        jopt.recipes.muon_adamw(state_dtype={"m": "bfloat16"})


WRONG = {
    "no such slot": (
        {"state_dtype": {"m": "bfloat16"}},
        """adamw: state_dtype= names a slot that there is not: 'm'
        expected: mu, nu, nu_max
        found:    'm'""",
    ),
    "no such dtype": (
        {"state_dtype": {"mu": "float16"}},
        """adamw: no state is stored in this dtype
        expected: state_dtype='int8', 'bfloat16', {slot: one of these}, or None for as computed
        found:    'float16'""",
    ),
    "one kernel": (
        {"state_dtype": {"mu": "int8"}, "kernel": "pallas"},
        """adamw: kernel='pallas' is for slots in 8 bits
        expected: state_dtype='int8'
        found:    state_dtype={'mu': 'int8'}
        Drop kernel=: XLA makes one pass over slots of other dtypes.""",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_told(wrong):
    arguments, text = WRONG[wrong]
    with error(jopt.ConfigError, text):
        jopt.adamw(**arguments)


def test_a_slot_that_cannot_be_rounded_is_named():
    with error(
        jopt.ConfigError,
        """asgd: the slot 'average' cannot be rounded, and is stored as computed
        expected: None
        found:    'bfloat16'""",
    ):
        jopt.asgd(state_dtype={"average": "bfloat16"})
    jopt.asgd(state_dtype={"average": None})
