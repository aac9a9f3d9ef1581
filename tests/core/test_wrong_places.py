"""Transforms, states and parameters in each other's place, and other libraries' in theirs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt import schedules as s

P = {"w": jnp.ones(3), "b": jnp.ones(2)}
NESTED = {"dense": {"kernel": jnp.ones((2, 2))}}
TX, FOREIGN = jopt.adam(1e-3), optax.adam(1e-3)
STATE, THEIRS = TX.init(P), FOREIGN.init(P)
MESH = jax.make_mesh((1,), ("x",))
TRACED = []
jax.eval_shape(lambda x: TRACED.append(x), P["w"])


def averaged():
    return jopt.ema(TX, decay=0.5).init(NESTED)


WRONG = [
    (lambda: jopt.step(FOREIGN, P, THEIRS, P), "step: this is no jopt transform", "jopt.chain"),
    (lambda: jopt.step({}, P, STATE, P), "step: this is no jopt transform", r"found:    \{\}"),
    (lambda: jopt.step(jopt.adam, P, STATE, P), "no jopt transform", "Call the factory"),
    (lambda: jopt.step(TX, P, P, STATE), "another transform", "in the place of the parameters"),
    (lambda: jopt.step(TX, P, P, P), "another transform", "that this transform's init"),
    (lambda: jopt.step(TX, P, {}, P), "another transform", "a dict with adam"),
    (lambda: jopt.step(TX, P, THEIRS, P), "another transform", "found:    tuple"),
    (lambda: TX.update(P, P, STATE), "another transform", "in the place of the parameters"),
    (lambda: jopt.extend(FOREIGN, STATE, P), "extend: this is no jopt transform", "jopt.chain"),
    (lambda: jopt.extend(STATE, TX, P), "extend: this is no jopt transform", "a jopt.Transform"),
    (lambda: jopt.extend(TX, P, STATE), "another transform", "in the place of the parameters"),
    (lambda: jopt.extend(TX, {}, P), "another transform", "a dict with adam"),
    (lambda: jopt.routing(FOREIGN, P), "routing: this is no jopt transform", "jopt.chain"),
    (lambda: jopt.routing(P, TX), "routing: this is no jopt transform", "a jopt.Transform"),
    (lambda: jopt.convert_state(FOREIGN, STATE, P), "convert_state: this is no", "jopt.chain"),
    (lambda: jopt.convert_state(TX, P, STATE), "another transform", "place of the parameters"),
    (lambda: jopt.hyperparams(THEIRS), "hyperparams: there is no state", "what tx.init gives"),
    (lambda: jopt.hyperparams(P), "hyperparams: there is no state", "what tx.init gives"),
    (lambda: jopt.hyperparams(NESTED), "hyperparams: there is no state", "what tx.init gives"),
    (lambda: jopt.set_hyperparams(NESTED, b1=0.5), "set_hyperparams: there is no state", "init"),
    (lambda: jopt.eval_params(P, STATE), "eval_params: there is no state", "what tx.init gives"),
    (lambda: jopt.eval_params(NESTED, averaged()), "in each other's place", "eval_params"),
    (lambda: jopt.sharding.state_sharding(FOREIGN, P, MESH), "this is no jopt tr", "jopt.chain"),
    (lambda: jopt.sharding.state_sharding(TX, P, "x"), "this is no mesh", "found:    'x'"),
    (lambda: jopt.sharding.laid_out(TX, P, "x"), "this is no mesh", "found:    'x'"),
    (lambda: jopt.sharding.with_layouts(TX, MESH), "these are no layouts", "found:    Mesh"),
    (lambda: jopt.sgd(1.0, axes={"w": P}), "axes=: no text says what the axes", "'i layer o"),
    (lambda: jopt.clip_by_norm(1.0, axes=P["w"]), "axes= takes a dict", "Array"),
    (lambda: jopt.add_noise(0.1, seed=[1]), "add_noise: seed", r"found:    \[1\]"),
    (lambda: jopt.to_bytes(TRACED), "is being traced and has no value", "outside of jit"),
    (lambda: jopt.sharding.state_sharding(TX, P, MESH, state=P), "another transform", "adam"),
    (lambda: jopt.chain([TX, TX]), "chain: this is no transform", r"chain\(\*\[\.\.\.\]\)"),
    (
        lambda: jopt.sgd(1.0, groups={"a": jopt.group("w", nesterov=True)}),
        "sgd: group 'a' sets 'nesterov', which is one choice for the whole optimizer",
        "jopt.route",
    ),
    (
        lambda: jopt.sgd(1.0, groups={"a": jopt.group("w", state_dtype="int8")}),
        "one choice for the whole optimizer",
        "jopt.route",
    ),
    (lambda: jopt.adam(1.0, amsgrad="yes"), "adam: amsgrad is yes or no", "found:    'yes'"),
    (lambda: jopt.sgd(1.0, 0.9, nesterov=1), "sgd: nesterov is yes or no", "found:    1"),
    (lambda: jopt.rmsprop(1.0, centered=None), "centered is yes or no", "True or False"),
    (lambda: jopt.group("w", freeze="yes"), "group: freeze is yes or no", "found:    'yes'"),
]


@pytest.mark.parametrize(("call", "problem", "more"), WRONG)
def test_what_stands_in_the_wrong_place_is_told(call, problem, more):
    with pytest.raises(jopt.JoptError, match=re.compile(f"{problem}.*{more}", re.DOTALL)):
        call()


def test_states_without_numbers_are_states():
    for tx in (jopt.chain(), jopt.chain(optax.trace(0.9)), jopt.chain(mine=optax.identity())):
        assert jopt.hyperparams(tx.init(NESTED)) == {}
        assert jopt.eval_params(tx.init(NESTED), NESTED) is NESTED
    assert jopt.eval_params(jopt.chain(mine=optax.trace(0.9)).init(P), P) is P


def test_flags_of_numpy_are_flags():
    assert jopt.sgd(1.0, 0.9, nesterov=np.bool_(True)) == jopt.sgd(1.0, 0.9, nesterov=True)


def test_a_schedule_with_an_if_names_its_number():
    falls = jopt.adam(lambda t: 1.0 if t < 3 else 0.1)
    inner = jopt.adam(1.0, weight_decay=s.join([lambda t: 1.0 if t < 3 else 0.1], []))
    for tx, name in ((falls, "learning_rate"), (inner, "weight_decay")):
        with pytest.raises(jopt.ConfigError, match=f"adam: the schedule of {name} branches") as e:
            jax.eval_shape(tx.update, P, tx.init(P), P)
        assert "jnp.where" in str(e.value)
        assert "jax.lax.cond" in str(e.value)


def test_a_plateau_in_another_library_says_what_it_needs():
    tx = optax.sgd(s.plateau(1e-3))
    with pytest.raises(jopt.ConfigError, match="no value at a step alone") as e:
        tx.update(P, tx.init(P), P)
    assert "value=metric" in str(e.value)


def test_a_sweep_takes_a_number_for_each_run():
    runs = jax.vmap(lambda rate: jopt.adam(rate).init(P))(jnp.arange(4.0))
    with pytest.raises(jopt.ConfigError, match="another number of values than there are runs") as e:
        jopt.set_hyperparams(runs, learning_rate=jnp.ones(3))
    assert "shape (4,)" in str(e.value)
    assert "shape (3,)" in str(e.value)
    four = jopt.set_hyperparams(runs, learning_rate=[1.0, 2.0, 3.0, 4.0])
    assert jopt.hyperparams(four)["adam"]["default"]["learning_rate"].tolist() == [1, 2, 3, 4]


def damaged(numbers):
    return {"adam": {**STATE["adam"], "hyperparams": numbers}}


NODES = ["x", None, [], {"default": "x"}, {"default": None}]
LEAVES = ["x", None, {}, True, 1j, [1.0], np.asarray("x"), np.asarray(1j), np.asarray(True)]
OWN = STATE["adam"]["hyperparams"]["default"]


@pytest.mark.parametrize("numbers", NODES + [{"default": {**OWN, "b1": x}} for x in LEAVES])
def test_a_damaged_state_is_told_wherever_it_goes(numbers):
    state = damaged(numbers)
    for use in (
        lambda: TX.update(P, state, P),
        lambda: jopt.step(TX, P, state, P),
        lambda: jopt.extend(TX, state, P),
        lambda: jopt.hyperparams(state),
        lambda: jopt.set_hyperparams(state, learning_rate=0.1),
    ):
        with pytest.raises(jopt.StateError, match=r"number|'hyperparams' in this"):
            use()
