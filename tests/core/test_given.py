"""The number that was changed last rules: the transform's where it is another, else the state's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

PARAMS = {"w": jnp.ones(3)}
GRADS = {"w": jnp.array([1.0, -2.0, 0.5])}


def rate(state, label="sgd", group="default", name="learning_rate"):
    return float(jopt.hyperparams(state)[label][group][name])


def step_of(tx, state, jit=True):
    """How far the first parameter goes for a gradient of one, and the state after it."""
    updates, state = (jax.jit(tx.update) if jit else tx.update)(GRADS, state, PARAMS)
    return -float(updates["w"][0]), state


@pytest.mark.parametrize("jit", [False, True])
def test_a_transform_built_with_another_number_rules(jit):
    state = jopt.sgd(0.125).init(PARAMS)
    gone, state = step_of(jopt.sgd(0.5), state, jit)
    assert gone == rate(state) == 0.5
    # An edit since then stands, for as long as the transform is the same.
    state = jopt.set_hyperparams(state, learning_rate=0.25)
    for _ in range(2):
        gone, state = step_of(jopt.sgd(0.5), state, jit)
        assert gone == rate(state) == 0.25
    # And the next script's number is changed later than the edit. What it leaves alone stays.
    state = jopt.set_hyperparams(state, weight_decay=2.0)
    gone, state = step_of(jopt.sgd(1.0), state, jit)
    assert gone == 1.0 * (1 + 2.0)
    assert (rate(state), rate(state, name="weight_decay")) == (1.0, 2.0)


def test_a_number_of_a_group_rules_by_itself():
    def built(rate, own):
        groups = {"b": jopt.group("^b$", learning_rate=own)}
        return jopt.chain(jopt.clip_by_value(10.0), jopt.sgd(rate, groups=groups))

    one = {"a": jnp.ones(()), "b": jnp.ones(())}
    state = built(0.5, 0.25).init(one)
    state = jopt.set_hyperparams(state, learning_rate=4.0)
    updates, state = built(0.5, 0.125).update(one, state, one)
    assert (float(updates["a"]), float(updates["b"])) == (-4.0, -0.125)
    assert (rate(state), rate(state, group="b")) == (4.0, 0.125)
    assert state["sgd"]["given"].shape == (3,)


@pytest.mark.parametrize("jit", [False, True])
def test_optax_injects_its_schedule(jit):
    falling = optax.linear_schedule(1.0, 0.0, 20)
    ours = optax.inject_hyperparams(lambda learning_rate: jopt.sgd(learning_rate))(falling)
    theirs = optax.sgd(falling)
    found = []
    for tx in ours, theirs:
        update = jax.jit(tx.update) if jit else tx.update
        params, state = PARAMS, tx.init(PARAMS)
        for _ in range(20):
            updates, state = update(GRADS, state, params)
            params = optax.apply_updates(params, updates)
        found.append(params["w"])
    np.testing.assert_array_equal(*found)


def test_a_traced_number_rules_and_so_does_its_derivative():
    state = jopt.set_hyperparams(jopt.adam(1e-3).init(PARAMS), learning_rate=7.0)

    @jax.jit
    @jax.value_and_grad
    def after(rate):
        tx, params, now = jopt.adam(rate), PARAMS, state
        for _ in range(2):
            updates, now = tx.update(GRADS, now, params)
            params = jopt.apply_updates(params, updates)
        return params["w"].sum()

    def plain(rate):  # of float64 numbers: both steps are the sign of the gradient times the rate
        g = np.asarray(GRADS["w"], np.float64)
        return float(np.sum(1 - 2 * rate * g / (np.abs(g) + 1e-8)))

    value, slope = after(0.25)
    np.testing.assert_allclose(value, plain(0.25), rtol=1e-6)
    np.testing.assert_allclose(slope, plain(1.0) - plain(0.0), rtol=1e-6)


def test_transforms_made_in_vmap_and_scan():
    rates = jnp.array([0.5, 1.0, 2.0])
    state = jopt.sgd(0.1).init(PARAMS)

    @jax.jit
    def run(rate):
        def body(carry, _):
            updates, now = jopt.sgd(rate).update(GRADS, carry[1], carry[0])
            return (jopt.apply_updates(carry[0], updates), now), None

        return jax.lax.scan(body, (PARAMS, state), None, 3)[0]

    params, states = jax.vmap(run)(rates)
    np.testing.assert_array_equal(params["w"][:, 0], 1 - 3 * rates)
    np.testing.assert_array_equal(
        jopt.hyperparams(states)["sgd"]["default"]["learning_rate"], rates
    )
    # Many states under one transform: edits stand where its number is the one that was given.
    tx = jopt.sgd(0.1)
    many = jax.vmap(tx.init, in_axes=None, axis_size=3)(PARAMS)
    many = jopt.set_hyperparams(many, learning_rate=rates)
    for built, expected in ((tx, rates), (jopt.sgd(0.25), jnp.full(3, 0.25))):
        update = jax.jit(jax.vmap(built.update, in_axes=(None, 0, None)))
        np.testing.assert_array_equal(update(GRADS, many, PARAMS)[0]["w"][:, 0], -expected)


def test_a_step_of_an_edited_state_is_not_compiled_anew():
    tx = jopt.chain(jopt.clip_by_global_norm(9.0), jopt.adamw(1e-3))
    update = jax.jit(tx.update)
    state = tx.init(PARAMS)
    for value in (1e-2, 1e-1):
        _, state = update(GRADS, jopt.set_hyperparams(state, learning_rate=value), PARAMS)
    assert update._cache_size() == 1
    one = jax.jit(lambda s, g: tx.update(g, s, PARAMS)[1])
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)
    after = jax.eval_shape(one, state, GRADS)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), after) == shapes


def test_x64_is_no_change_of_a_number():
    tx = jopt.sgd(0.1)
    state = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=0.5)
    with jax.enable_x64(True):
        # The state as it is, and widened, as load does with cast=True.
        wide = jax.tree.map(lambda x: x.astype("float64") if x.dtype == "float32" else x, state)
        for one in state, wide:
            updates, after = tx.update(GRADS, one, PARAMS)
            assert float(updates["w"][0]) == -0.5
            assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, one)
        narrow = jax.tree.map(lambda x: x.astype("float32") if x.dtype == "float64" else x, wide)
    assert step_of(tx, narrow)[0] == 0.5


def test_extend_takes_over_what_the_next_update_uses():
    state = jopt.adam(0.5).init(PARAMS)
    wider = {**PARAMS, "v": jnp.zeros(2)}
    kept = jopt.extend(jopt.adam(0.5), jopt.set_hyperparams(state, learning_rate=2.0), wider)
    assert rate(kept, "adam") == 2.0
    other = jopt.extend(jopt.adam(0.25), jopt.set_hyperparams(state, learning_rate=2.0), wider)
    assert rate(other, "adam") == 0.25
    new = jopt.group("^v$", learning_rate=8.0)
    grown = jopt.extend(jopt.adam(0.5, groups={"v": new}), state, wider)
    assert (rate(grown, "adam"), rate(grown, "adam", "v")) == (0.5, 8.0)
    np.testing.assert_array_equal(
        grown["adam"]["given"], jnp.float32([0.9, 0.999, 1e-8, 0.5, 0.0, 8.0])
    )


def older(state):
    """As version 1 kept it, in memory."""
    return {k: {e: x for e, x in node.items() if e != "given"} for k, node in state.items()}


def test_a_state_of_an_older_jopt_says_how_it_goes_on():
    tx = jopt.adam(0.5)
    state = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=2.0)
    with pytest.raises(jopt.StateError, match="which numbers its transform was built") as caught:
        tx.update(GRADS, older(state), PARAMS)
    assert "jopt.extend(tx, state, params)" in caught.value.fix
    again = jopt.extend(tx, older(state), PARAMS)
    assert rate(again, "adam") == 2.0  # nobody knows what was given: the state's number stands
    bare = older(jopt.sgd(0.5).init(PARAMS))
    del bare["sgd"]["count"]
    with pytest.raises(jopt.StateError, match="no step count") as caught:
        jopt.sgd(0.5).update(GRADS, bare, PARAMS)
    assert "jopt.extend(tx, state, params)" in caught.value.fix
    assert step_of(jopt.sgd(0.5), jopt.extend(jopt.sgd(0.5), bare, PARAMS))[0] == 0.5


def test_a_node_that_says_it_wrongly_is_an_error():
    tx = jopt.sgd(0.5)
    state = tx.init(PARAMS)
    for wrong in (jnp.zeros(3), jnp.zeros(2, int), "0.5"):
        odd = {"sgd": {**state["sgd"], "given": wrong}}
        with pytest.raises(jopt.StateError, match="which numbers its transform was built with"):
            tx.update(GRADS, odd, PARAMS)
