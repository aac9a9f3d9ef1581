"""`jopt.monitor(tx)` against norms that numpy takes in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

PARAMS = {
    "a": {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "bias": jnp.ones(4)},
    "b": {"kernel": jnp.linspace(2.0, 3.0, 8).reshape(4, 2), "bias": jnp.full(2, 0.5)},
}
GRADS = jax.tree.map(lambda x: jnp.cos(3 * x), PARAMS)
PLAIN = {"plain": jopt.group("bias$", weight_decay=0.0)}


def norm(tree, match=""):
    keyed = jax.tree_util.tree_leaves_with_path(tree)
    mine = [np.asarray(x, np.float64) for k, x in keyed if match in jax.tree_util.keystr(k)]
    return np.sqrt(sum(float((x * x).sum()) for x in mine))


def seen(state):
    found = jax.device_get(jopt.metrics(state))
    return {k.removeprefix("monitor/"): float(x) for k, x in found.items() if "monitor/" in k}


def test_norms_are_those_of_what_goes_in_and_comes_out():
    inner = jopt.chain(jopt.clip_by_global_norm(0.5), jopt.adamw(0.1, weight_decay=0.1))
    tx = jopt.monitor(inner)
    params, state, other = PARAMS, tx.init(PARAMS), inner.init(PARAMS)
    assert all(np.isnan(x) for k, x in seen(state).items() if k.endswith(("t_norm", "e_norm")))
    for i in range(3):
        grads = jax.tree.map(lambda g, i=i: g * (1 + i), GRADS)
        updates, state = jax.jit(tx.update)(grads, state, params)
        expected, other = jax.jit(inner.update)(grads, other, params)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        found = seen(state)
        assert found["gradient_norm"] == pytest.approx(norm(grads), rel=1e-6)
        assert found["update_norm"] == pytest.approx(norm(updates), rel=1e-6)
        assert found["param_norm"] == pytest.approx(norm(params), rel=1e-6)
        assert found["update_ratio"] == pytest.approx(norm(updates) / norm(params), rel=1e-6)
        params = jopt.apply_updates(params, updates)
    jax.tree.map(np.testing.assert_array_equal, state["monitor"]["inner"], other)
    assert found["adamw/learning_rate"] == pytest.approx(0.1)


def test_groups_are_counted_each_alone_and_a_leaf_in_each_of_its_own():
    groups = {**PLAIN, "a": jopt.group("^a/", learning_rate=jopt.times(2))}
    tx = jopt.monitor(jopt.adamw(0.1, groups=groups))
    updates, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    found = seen(state)
    for group, match in (("plain", "bias"), ("a", "['a']"), ("ungrouped", "['b']['kernel']")):
        assert found[f"{group}/gradient_norm"] == pytest.approx(norm(GRADS, match), rel=1e-6)
        assert found[f"{group}/update_norm"] == pytest.approx(norm(updates, match), rel=1e-6)
        assert found[f"{group}/param_norm"] == pytest.approx(norm(PARAMS, match), rel=1e-6)
    assert found["gradient_norm"] == pytest.approx(norm(GRADS), rel=1e-6)


def test_each_of_several_optimizers_is_counted_and_what_is_frozen_is_not():
    still = {"still": jopt.group("^b/bias", freeze=True)}
    tx = jopt.monitor(jopt.route(jopt.adamw(0.1, groups=still), m=("kernel$", jopt.muon(0.1))))
    updates, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    found = seen(state)
    assert found["muon/update_norm"] == pytest.approx(norm(updates, "kernel"), rel=1e-6)
    assert found["adamw/gradient_norm"] == pytest.approx(norm(GRADS["a"]["bias"]), rel=1e-6)
    assert not any("still" in name for name in found)
    moving = [*jax.tree.leaves(GRADS["a"]), GRADS["b"]["kernel"]]
    assert found["gradient_norm"] == pytest.approx(norm(moving), rel=1e-6)


def test_steps_that_are_left_out_leave_what_was_seen_of_steps():
    tx = jopt.monitor(jopt.skip_nonfinite(jopt.sgd(0.5)))
    _, before = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    bad = jax.tree.map(lambda g: g * jnp.inf, GRADS)
    _, after = tx.update(bad, before, PARAMS)
    was, now = seen(before), seen(after)
    assert not np.isfinite(now.pop("gradient_norm"))
    assert now["skip_nonfinite/total"] == 1
    kept = ("update_norm", "param_norm", "update_ratio")
    assert {k: now[k] for k in kept} == {k: was[k] for k in kept}


def test_inside_of_accumulate_it_sees_rounds():
    tx = jopt.accumulate(jopt.monitor(jopt.sgd(0.5)), 2)
    state, total = tx.init(PARAMS), jax.tree.map(lambda g: 1.5 * g, GRADS)
    for factor in (1.0, 2.0):
        _, state = tx.update(jax.tree.map(lambda g, f=factor: f * g, GRADS), state, PARAMS)
    found = jopt.metrics(state)
    assert found["accumulate/monitor/gradient_norm"] == pytest.approx(norm(total), rel=1e-6)


def test_a_scan_collects_what_a_step_is_like_and_step_is_update():
    tx = jopt.monitor(jopt.adamw(0.1, groups=PLAIN))

    def body(carry, _):
        params, state = jopt.step(tx, GRADS, carry[1], carry[0])
        return (params, state), jopt.metrics(state)

    _, rows = jax.lax.scan(body, (PARAMS, tx.init(PARAMS)), length=3)
    params, state = PARAMS, tx.init(PARAMS)
    for i in range(3):
        updates, state = tx.update(GRADS, state, params)
        params = jopt.apply_updates(params, updates)
        one = jopt.metrics(state)
        assert one.keys() == rows.keys()
        for name, x in one.items():
            np.testing.assert_allclose(rows[name][i], x, rtol=1e-5, err_msg=name)


def test_what_has_no_gradient_and_what_is_narrow():
    params = {"w": jnp.full(1000, 3e-3, jnp.bfloat16), "x": jnp.ones(2)}
    grads = {"w": jnp.full(1000, 1e-3, jnp.bfloat16), "x": None}
    tx = jopt.monitor(jopt.sgd(0.5))
    updates, state = tx.update(grads, tx.init(params), params)
    found = seen(state)
    assert found["gradient_norm"] == pytest.approx(norm(grads["w"]), rel=1e-5)
    assert found["param_norm"] == pytest.approx(norm(params), rel=1e-5)
    _, state = tx.update(grads, state)
    assert np.isnan(seen(state)["param_norm"])
    assert seen(state)["update_norm"] == pytest.approx(norm(updates), rel=1e-5)


def test_rows_count_once_and_examples_by_their_mean():
    table = {"t": jnp.ones((5, 2))}
    rows = {"t": jopt.row_gradient([1, 1, 3], jnp.ones((3, 2)), table["t"])}
    tx = jopt.monitor(jopt.sparse_adam(0.1))
    _, state = tx.update(rows, tx.init(table), table)
    assert seen(state)["gradient_norm"] == pytest.approx(10**0.5, rel=1e-6)
    private = jopt.chain(jopt.differentially_private(1.0, 0.0, seed=0), jopt.sgd(0.1))
    tx = jopt.monitor(private)
    each = {"t": jnp.stack([jnp.ones((5, 2)), jnp.zeros((5, 2))])}
    _, state = tx.update(each, tx.init(table), table)
    assert seen(state)["gradient_norm"] == pytest.approx(2.5**0.5, rel=1e-6)


def test_a_state_goes_on_with_other_groups_and_leaves():
    tx, after = (jopt.monitor(jopt.adamw(0.1, groups=g)) for g in (None, PLAIN))
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    grown = {**PARAMS, "c": {"bias": jnp.ones(3)}}
    state = jopt.extend(after, state, grown)
    shapes = jax.tree.map(jnp.shape, state["monitor"]["monitored"])
    assert shapes == jax.tree.map(jnp.shape, after.init(grown)["monitor"]["monitored"])
    assert seen(state)["gradient_norm"] == pytest.approx(norm(GRADS), rel=1e-6)
    assert np.isnan(seen(state)["plain/gradient_norm"])
    with pytest.raises(jopt.StateError, match="another configuration"):
        tx.update(GRADS, {"monitor": {"inner": state["monitor"]["inner"]}}, PARAMS)


def test_what_is_wrong_is_told():
    with pytest.raises(jopt.ConfigError, match="keeps no running means"):
        jopt.monitor(jopt.sgd(0.1), decay=0.9)
    with pytest.raises(jopt.ConfigError, match="functions by name"):
        jopt.monitor(jopt.sgd)
