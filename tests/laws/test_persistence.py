"""Transforms are their call; states survive saving to the bit."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import pytest
from flax import serialization

import jopt
from jopt.testing import persistence
from tests.laws.harness import assert_same_bits, each, other_number, params_of, run, subject


@each
def test_repr_is_code_for_an_equal_transform(entry):
    for tx in (entry.make(), entry.factory()):
        again = eval(repr(tx), {"jopt": jopt})
        assert again == tx
        assert hash(again) == hash(tx)
        assert repr(again) == repr(tx)


@each
def test_another_number_is_another_transform(entry):
    tx = entry.make()
    params = params_of(entry)
    name, value = next(iter(jopt.hyperparams(tx.init(params))[entry.name]["default"].items()))
    assert entry.make(**{name: other_number(entry.name, name, value)}) != tx


@each
def test_pickle_gives_an_equal_transform_with_the_same_numbers(entry):
    tx, params = entry.make(), params_of(entry)
    again = pickle.loads(pickle.dumps(tx))
    assert again == tx
    assert_same_bits(
        run(entry, again, params, again.init(params), range(2)),
        run(entry, tx, params, tx.init(params), range(2)),
    )


@each
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_save_load_continue_is_bit_equal(entry, dtype):
    tx, params = entry.make(), params_of(entry, dtype)
    params, state = run(entry, tx, params, tx.init(params), range(3))
    data = serialization.to_bytes({"params": params, "state": state})
    loaded = jax.tree.map(jnp.asarray, serialization.msgpack_restore(data))
    assert_same_bits(loaded["state"], state)
    assert_same_bits(
        run(entry, tx, loaded["params"], loaded["state"], range(3, 6)),
        run(entry, tx, params, state, range(3, 6)),
    )


@each
def test_a_pickled_state_is_the_state(entry):
    persistence.pickles(subject(entry))


@each
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_save_load_continue_is_bit_equal_by_jopts_own_files(entry, dtype):
    persistence.resumes(subject(entry), dtype)
