"""Updates without parameters, and gradients that are not there, as their options say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

GRADS = {"a": jnp.array([1.0, -2.0]), "b": jnp.ones((2, 3))}
PARAMS = jax.tree.map(jnp.zeros_like, GRADS)
FREE = {
    "adam": (jopt.adam(0.1), optax.adam(0.1)),
    "sgd": (jopt.sgd(0.1), optax.sgd(0.1)),
    "momentum": (jopt.sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
    "no decay": (jopt.adamw(0.1, weight_decay=0.0), optax.adam(0.1)),
    "chain": (
        jopt.chain(jopt.clip_by_value(0.5), jopt.adam(0.1)),
        optax.chain(optax.clip(0.5), optax.adam(0.1)),
    ),
}


@pytest.mark.parametrize("name", FREE)
def test_a_step_that_needs_no_parameter_does_without(name):
    # As brax and equinox's examples call it.
    found = []
    for tx in FREE[name]:
        state, params = tx.init(PARAMS), PARAMS
        update = jax.jit(tx.update)
        for _ in range(3):
            with jax.numpy_dtype_promotion("standard"):  # which optax's bias correction wants
                updates, state = update(GRADS, state)
            params = optax.apply_updates(params, updates)
        found.append(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *found)


@pytest.mark.parametrize("routed", [False, True])
def test_frozen_leaves_are_told_apart_without_the_parameters(routed):
    """By their shapes, too, and by what stands in front of the part that freezes."""
    frozen = jopt.group(lambda path, leaf: leaf.ndim == 1, freeze=True)
    slow = jopt.group(lambda path, leaf: leaf.ndim == 2, learning_rate=0.01)
    tx = jopt.chain(jopt.clip_by_value(0.5), jopt.sgd(0.1, groups={"f": frozen, "s": slow}))
    if routed:
        params = {**PARAMS, "c": jnp.zeros(())}
        tx = jopt.route(jopt.sgd(1.0), most=("a|b", jopt.sgd(0.1, groups={"f": frozen, "s": slow})))
        grads = {**GRADS, "c": jnp.ones(())}
    else:
        params, grads = PARAMS, GRADS
    alone, _ = tx.update(grads, tx.init(params))
    known, _ = tx.update(grads, tx.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, alone, known)
    np.testing.assert_array_equal(alone["a"], 0.0)
    np.testing.assert_array_equal(alone["b"], jnp.float32(-0.01) * (1.0 if routed else 0.5))


@pytest.mark.parametrize(
    "tx", [jopt.adamw(0.1), jopt.adam(jopt.schedules.constant(0.1), weight_decay=0.1)]
)
def test_decay_needs_the_parameters(tx):
    with pytest.raises(jopt.TreeError, match="because of weight_decay of group 'default'"):
        tx.update(GRADS, tx.init(PARAMS))


def test_decay_that_an_edit_switches_on_is_never_ignored():
    tx = jopt.adam(0.1)
    state = jopt.set_hyperparams(tx.init(PARAMS), weight_decay=0.1)
    with pytest.raises(jopt.StateError, match="weight_decay is in force") as caught:
        tx.update(GRADS, state)
    assert caught.value.fix == "Call tx.update(grads, state, params)."
    updates, _ = jax.jit(tx.update)(GRADS, state)
    assert all(np.isnan(u).all() for u in jax.tree.leaves(updates))


def test_a_leaf_may_sit_out_where_skips_says():
    tx = jopt.adam(0.1, skips="^b$")
    state = tx.init(PARAMS)
    assert state["adam"]["leaf_count"] == {"b": 0}
    with pytest.raises(jopt.TreeError, match="skips=True") as caught:
        tx.update({**GRADS, "a": None}, state, PARAMS)
    assert caught.value.path == "a"

    def body(state, g):
        return tx.update({"a": g, "b": None}, state, PARAMS)[1], None

    state = jax.lax.scan(body, state, jnp.ones((3, 2)))[0]
    assert (int(state["adam"]["count"]), int(state["adam"]["leaf_count"]["b"])) == (3, 0)
    with pytest.raises(jopt.GroupError, match="skips= matches no leaf"):
        jopt.adam(0.1, skips="nothing").init(PARAMS)
    with pytest.raises(jopt.ConfigError, match="skips= selects leaves"):
        jopt.adam(0.1, skips=3)


@pytest.mark.parametrize("tx", [jopt.sgd(0.1), jopt.rmsprop(0.1), jopt.clip_by_norm(1.0)])
def test_what_does_not_read_the_step_takes_none_freely(tx):
    state = tx.init(PARAMS)
    _, after = tx.update({**GRADS, "b": None}, state, PARAMS)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_a_schedule_goes_on_at_the_state_s_own_count():
    falls = jopt.schedules.linear(1.0, 0.0, 8)
    state = jopt.sgd(0.5).init(PARAMS)
    for _ in range(4):
        _, state = jopt.sgd(0.5).update(GRADS, state, PARAMS)
    state = jopt.extend(jopt.sgd(falls), state, PARAMS)
    for step in range(4, 7):
        coming = float(jopt.hyperparams(state)["sgd"]["default"]["learning_rate"])
        updates, state = jopt.sgd(falls).update(GRADS, state, PARAMS)
        assert coming == -float(updates["a"][0]) == float(falls(step))
