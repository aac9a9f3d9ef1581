"""Rounds that end early or late: taken over by another length, flushed, joined in their middle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

W = {"w": jnp.float32(0.0)}


def fed(tx, state, grads, params=W, **extra):
    """The updates at each of these gradients, and the state after them."""
    seen = []
    for g in grads:
        updates, state = tx.update({"w": jnp.float32(g)}, state, params, **extra)
        seen.append(float(updates["w"]))
    return seen, state


def by(every):
    return jopt.accumulate(jopt.sgd(1.0), every=every)


@pytest.mark.sampled
@pytest.mark.parametrize("how", ["extend", "load", "as it is"])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 8])
def test_another_length_takes_over_in_mid_round(how, every):
    _, state = fed(by(5), by(5).init(W), [1.0, 2.0, 6.0])
    tx = by(every)
    if how == "extend":
        state = jopt.extend(tx, state, W)
    elif how == "load":
        state = jopt.from_bytes(tx.init(W), jopt.to_bytes(state))
    grads = [3.0, 5.0, 1.0, 0.0, 2.0, 7.0]
    seen, _ = fed(tx, state, grads)
    held, want = [1.0, 2.0, 6.0], []
    for g in grads:  # the plain loop
        held.append(g)
        want.append(-np.mean(held) if len(held) >= every else 0.0)
        held = [] if len(held) >= every else held
    np.testing.assert_allclose(seen, want, rtol=1e-6)


@pytest.mark.parametrize("traced", [False, True])
def test_a_flush_ends_the_round_with_the_mean_of_what_is_there(traced):
    tx, state = by(4), by(4).init(W)
    step = jax.jit(lambda g, s, flush: jopt.step(tx, {"w": g}, s, W, flush=flush))
    seen = []
    for i, g in enumerate([1.0, 2.0, 6.0, 1.0, 5.0, 1.0, 1.0]):
        flush = jnp.bool_(i == 2) if traced else i == 2
        run = step if traced else (lambda g, s, f: jopt.step(tx, {"w": g}, s, W, flush=f))
        after, state = run(jnp.float32(g), state, flush)
        seen.append(float(after["w"]))
    assert seen == [0.0, 0.0, -3.0, 0.0, 0.0, 0.0, -2.0]
    assert not traced or step._cache_size() == 1


def test_a_flush_without_gradients_takes_what_is_there_or_nothing():
    tx, none = by(4), {"w": None}
    fresh = tx.init(W)
    updates, state = tx.update(none, fresh, W, flush=True)
    assert updates["w"] == 0
    assert int(state["accumulate"]["micro"]) == 0
    _, state = fed(tx, state, [1.0, 2.0, 6.0])
    _, waits = tx.update(none, state, W)
    assert int(waits["accumulate"]["micro"]) == 3
    updates, state = tx.update(none, waits, W, flush=True)
    assert float(updates["w"]) == -3.0
    updates, state = tx.update(none, state, W, flush=jnp.bool_(True))
    assert float(updates["w"]) == 0.0


def test_a_flush_ends_all_rounds_within_and_averages_see_it():
    tx = jopt.ema(jopt.accumulate(jopt.accumulate(jopt.sgd(1.0), every=2), every=2), decay=0.5)
    params, state = W, tx.init(W)
    for g, flush in ((1.0, False), (3.0, False), (5.0, True), (7.0, True)):
        params, state = jopt.step(tx, {"w": jnp.float32(g)}, state, params, flush=flush)
    # means 2 and 5, flushed as one step of their mean; then 7 alone
    assert float(params["w"]) == -3.5 - 7.0
    assert int(state["ema"]["count"]) == 2


@pytest.mark.parametrize("flush", [1, jnp.ones(2, bool), jnp.float32(1.0)])
def test_a_flush_is_a_truth_value(flush):
    tx = by(4)
    with pytest.raises(jopt.ConfigError, match="flush= is no truth value"):
        tx.update(W, tx.init(W), W, flush=flush)


def test_who_has_no_rounds_has_no_use_for_a_flush():
    tx = jopt.sgd(1.0)
    updates, _ = tx.update({"w": jnp.float32(2.0)}, tx.init(W), W, flush=True)
    assert float(updates["w"]) == -2.0


@pytest.mark.parametrize("how", ["update", "step"])
def test_a_leaf_that_joins_in_mid_round_has_the_mean_of_its_own(how):
    tx, state = by(4), by(4).init(W)
    _, state = fed(tx, state, [1.0, 2.0])
    both = {**W, "v": jnp.float32(0.0)}
    state = jopt.extend(tx, state, both)

    @jax.jit
    def step(g, state):
        if how == "step":
            return jopt.step(tx, g, state, both)
        updates, state = tx.update(g, state, both)
        return jopt.apply_updates(both, updates), state

    seen = []
    for w, v in ((3.0, 5.0), (6.0, 9.0), (1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (1.0, 6.0)):
        after, state = step({"w": jnp.float32(w), "v": jnp.float32(v)}, state)
        seen.append((float(after["w"]), float(after["v"])))
    assert seen == [(0, 0), (-3.0, -7.0), (0, 0), (0, 0), (0, 0), (-1.0, -3.0)]
    assert step._cache_size() == 1
    again = jopt.from_bytes(tx.init(both), jopt.to_bytes(state))
    assert int(again["accumulate"]["leaf_micro"]["v"]) == 0
    _, state = fed(tx, jopt.extend(tx, state, both), [])
    assert set(state["accumulate"]["leaf_micro"]) == {"v"}


def test_a_leaf_that_is_gone_is_an_error_also_where_only_the_sum_knew_it():
    tx = by(2)
    state = tx.init({**W, "v": jnp.ones(2)})
    with pytest.raises(jopt.StateError, match=r"extend only adds leaves.*\n.*at: +v"):
        jopt.extend(tx, state, W)


def test_a_leaf_of_another_shape_is_one_clear_error():
    tx = by(2)
    with pytest.raises(jopt.StateError, match="'sum' in the state does not have the shape"):
        jopt.extend(tx, tx.init({"w": jnp.ones(3)}), W)


def test_a_state_of_another_layout_is_one_clear_error():
    tx = by(2)
    node = dict(tx.init(W)["accumulate"])
    node["mean"] = node.pop("sum")
    with pytest.raises(jopt.StateError, match="made by another configuration"):
        tx.update(W, {"accumulate": node}, W)
