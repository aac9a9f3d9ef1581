"""Accumulation: the mean of a round, one step for it, and rest in between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

PARAMS = {"b": jnp.ones(3), "w": jnp.ones((4, 3))}


def gradients(n, seed=0):
    keys = jax.random.split(jax.random.key(seed), (n, 2))
    return [
        {
            k: jax.random.normal(key, p.shape)
            for key, (k, p) in zip(row, PARAMS.items(), strict=True)
        }
        for row in keys
    ]


def run(tx, grads, params=PARAMS):
    state = tx.init(params)
    step = jax.jit(tx.update)
    for g in grads:
        updates, state = step(g, state, params)
        params = jopt.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_round_is_one_step_with_its_mean(every):
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(jopt.schedules.linear(0.1, 0.0, 5)))
    grads = gradients(3 * every)
    rounds = [grads[i : i + every] for i in range(0, len(grads), every)]
    means = [jax.tree.map(lambda *g: sum(x / every for x in g), *r) for r in rounds]
    params, state = run(jopt.accumulate(tx, every), grads)
    alone, inner = run(tx, means)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)
    assert int(state["accumulate"]["micro"]) == 0
    assert int(state["accumulate"]["inner"]["adamw"]["count"]) == int(inner["adamw"]["count"]) == 3


def test_between_steps_nothing_moves():
    tx = jopt.accumulate(jopt.adamw(0.1), every=3)
    fresh = tx.init(PARAMS)
    params, state = run(tx, gradients(2))
    jax.tree.map(np.testing.assert_array_equal, params, PARAMS)
    jax.tree.map(
        np.testing.assert_array_equal, state["accumulate"]["inner"], fresh["accumulate"]["inner"]
    )
    assert int(state["accumulate"]["micro"]) == 2


def test_a_round_can_be_saved_in_its_middle():
    tx, grads = jopt.accumulate(jopt.adamw(0.1), every=4), gradients(8)
    whole, _ = run(tx, grads)
    params, state = run(tx, grads[:6])
    state = jopt.from_bytes(state, jopt.to_bytes(state, tx=tx), tx=tx)
    step = jax.jit(tx.update)
    for g in grads[6:]:
        updates, state = step(g, state, params)
        params = jopt.apply_updates(params, updates)
    jax.tree.map(np.testing.assert_array_equal, params, whole)


def test_half_precision_gradients_add_up_in_float32():
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    tx = jopt.accumulate(jopt.sgd(1.0), every=1024)
    state = tx.init(params)
    assert state["accumulate"]["sum"]["w"].dtype == jnp.float32
    step = jax.jit(tx.update)
    for _ in range(1023):
        _, state = step({"w": jnp.ones(2, jnp.bfloat16)}, state, params)
    np.testing.assert_allclose(state["accumulate"]["sum"]["w"], 1023, rtol=0)


def test_a_missing_gradient_counts_as_zero():
    tx = jopt.accumulate(jopt.sgd(1.0), every=2)
    state = tx.init(PARAMS)
    _, state = tx.update({"b": None, "w": PARAMS["w"]}, state, PARAMS)
    updates, _ = tx.update(PARAMS, state, PARAMS)
    np.testing.assert_array_equal(updates["b"], -0.5)
    np.testing.assert_array_equal(updates["w"], -1.0)


def test_frozen_integers_pass():
    params = {"ids": jnp.arange(3), "w": jnp.ones(2)}
    inner = jopt.sgd(1.0, groups={"fixed": jopt.group("ids", freeze=True)})
    tx = jopt.accumulate(inner, every=2)
    grads = {"ids": None, "w": jnp.ones(2)}
    state = tx.init(params)
    for _ in range(2):
        updates, state = jax.jit(tx.update)(grads, state, params)
        params = jopt.apply_updates(params, updates)
    np.testing.assert_array_equal(params["ids"], jnp.arange(3))
    np.testing.assert_array_equal(params["w"], 0.0)


def test_numbers_inside_are_reached():
    tx = jopt.accumulate(jopt.adamw(0.1), every=2)
    state = jopt.set_hyperparams(tx.init(PARAMS), learning_rate=0.5)
    assert float(jopt.hyperparams(state)["accumulate/adamw"]["default"]["learning_rate"]) == 0.5


def test_new_leaves_join_a_round():
    tx = jopt.accumulate(jopt.adamw(0.1), every=3)
    _, state = run(tx, gradients(1))
    wider = jopt.extend(tx, state, {**PARAMS, "c": jnp.ones(2)})
    np.testing.assert_array_equal(wider["accumulate"]["sum"]["c"], 0)
    np.testing.assert_array_equal(wider["accumulate"]["sum"]["w"], state["accumulate"]["sum"]["w"])


def test_another_length_of_round_is_another_configuration():
    data = jopt.to_bytes(
        jopt.accumulate(jopt.sgd(), 2).init(PARAMS), tx=jopt.accumulate(jopt.sgd(), 2)
    )
    with pytest.raises(jopt.CheckpointError, match="accumulate/choices/every: expected 4, found 2"):
        jopt.from_bytes(None, data, tx=jopt.accumulate(jopt.sgd(), 4))


@pytest.mark.parametrize("every", [0, 2.0, True])
def test_bad_rounds(every):
    with pytest.raises(jopt.ConfigError, match="every is a number of updates"):
        jopt.accumulate(jopt.sgd(), every)


def test_sparse_gradients_are_refused():
    params = {"t": jnp.ones((4, 2))}
    tx = jopt.accumulate(jopt.sgd(), 2)
    g = {"t": jopt.row_gradient([1], jnp.ones((1, 2)), params["t"])}
    with pytest.raises(jopt.TreeError, match=r"cannot be accumulated\n  at:       t"):
        tx.update(g, tx.init(params), params)
