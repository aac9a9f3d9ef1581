"""Lookahead: against optax live, plain loops in float64, and in compositions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from tests.wrappers.runs import START, close, grad, run


def by_hand(steps, k, alpha, mu=0.0, nesterov=True):
    found = []
    p = {n: x.copy() for n, x in START.items()}
    slow, v = {n: x.copy() for n, x in p.items()}, dict.fromkeys(p, 0.0)
    for t in range(steps):
        for n in p:
            p[n] = p[n] - 0.05 * grad(p[n], t)
            if (t + 1) % k == 0:
                d = p[n] - slow[n]
                v[n] = mu * v[n] + d
                slow[n] = slow[n] + alpha * (d + mu * v[n] if nesterov else v[n])
                p[n] = slow[n]
        found.append((dict(p), dict(slow)))
    return found


@pytest.mark.parametrize(
    ("k", "alpha", "mu", "nesterov"), [(3, 0.5, 0.0, True), (4, 0.7, 0.9, True), (2, 1, 0.5, False)]
)
def test_a_plain_loop(k, alpha, mu, nesterov, x64):
    tx = jopt.lookahead(
        jopt.sgd(0.05), sync_period=k, slow_step_size=alpha, momentum=mu, nesterov=nesterov
    )
    pairs = zip(run(tx, 50), by_hand(50, k, alpha, mu, nesterov), strict=True)
    for (params, state), (p, slow) in pairs:
        close(params, p)
        close(jopt.eval_params(state, params), slow)
    assert ("velocity" in state["lookahead"]) == (mu > 0)


@pytest.mark.parametrize("reset", [False, True])
def test_optax(reset, x64):
    theirs = optax.lookahead(optax.adam(0.05, eps_root=0.0), 5, 0.5, reset_state=reset)
    params = optax.LookaheadParams.init_synced(jax.tree.map(jnp.asarray, START))
    state = theirs.init(params)

    @jax.jit
    def one(params, state, t):
        grads = jax.tree.map(lambda p: grad(p, t), params.fast)
        updates, state = theirs.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    ours = run(jopt.lookahead(jopt.adam(0.05), sync_period=5, reset_state=reset), 50)
    for t, (p, s) in enumerate(ours):
        with jax.numpy_dtype_promotion("standard"):
            params, state = one(params, state, jnp.float64(t))
        close(p, params.fast)
        close(jopt.eval_params(s, p), params.slow)


def test_rests_groups_and_frozen_leaves():
    groups = {"cold": jopt.group("^cold", freeze=True)}
    tx = jopt.lookahead(
        jopt.accumulate(jopt.sgd(1.0, groups=groups), every=2),
        sync_period=2,
        groups={
            "fast": jopt.group("^fast", freeze=True),
            "far": jopt.group("^far", slow_step_size=1),
        },
    )
    params = {k: jnp.zeros(()) for k in ("cold", "far", "fast", "w")}
    state = tx.init(params)
    assert set(state["lookahead"]["average"]) == {"far", "w"}
    ones = jax.tree.map(jnp.ones_like, params)
    for _ in range(4):  # two steps: one period
        params, state = jopt.step(tx, ones, state, params)
    assert jax.tree.map(float, params) == {"cold": 0.0, "far": -2.0, "fast": -2.0, "w": -1.0}
    assert int(state["lookahead"]["count"]) == 2


def test_a_leaf_that_joins_has_periods_of_its_own():
    tx = jopt.lookahead(jopt.sgd(1.0), sync_period=3)
    params = {"a": jnp.float32(0)}
    params, state = jopt.step(tx, {"a": jnp.float32(1)}, tx.init(params), params)
    params["b"] = jnp.float32(0)
    state = jopt.extend(tx, state, params)
    for _ in range(3):
        params, state = jopt.step(tx, jax.tree.map(jnp.ones_like, params), state, params)
    np.testing.assert_allclose([params["a"], params["b"]], [-2.5, -1.5])


def test_the_state_is_edited_and_a_schedule_drives():
    tx = jopt.lookahead(jopt.sgd(1.0), sync_period=1, slow_step_size=jopt.schedules.step(1.0, 1))
    p = jnp.float32(0)
    p, state = jopt.step(tx, jnp.float32(1), tx.init(p), p)
    p, state = jopt.step(tx, jnp.float32(1), state, p)
    assert float(p) == pytest.approx(-1.1)
    tx = jopt.lookahead(jopt.sgd(1.0), sync_period=1)
    state = jopt.set_hyperparams(tx.init(p), slow_step_size=0.25)
    assert float(tx.update(jnp.float32(1), state, p)[0]) == pytest.approx(-0.25)


def test_what_begins_anew_keeps_its_numbers_and_keys():
    plan = jopt.schedules.linear(1.0, 0.0, 4)
    tx = jopt.lookahead(
        jopt.accumulate(
            jopt.route(
                jopt.adam(0.1, skips=True),
                v=("v", jopt.chain(jopt.add_noise(0.1), jopt.sgd(plan, momentum=0.5))),
            ),
            every=2,
        ),
        sync_period=2,
        reset_state=True,
    )
    params = {"v": jnp.ones(2), "w": jnp.ones(2)}
    begun = jopt.set_hyperparams(tx.init(params), label="lookahead/accumulate/route/adam", b1=0.5)
    step, state = jax.jit(lambda p, s: jopt.step(tx, params, s, p)), begun
    for _ in range(4):  # two steps: one period
        params, state = step(params, state)
    node = state["lookahead"]["inner"]["accumulate"]
    inner, fresh = (
        s["lookahead"]["inner"]["accumulate"]["inner"]["route"]["inner"] for s in (state, begun)
    )
    assert int(state["lookahead"]["inner"]["lookahead"]["count"]) == 2
    assert int(node["micro"]) == int(inner["adam"]["count"]) == int(inner["sgd"]["count"]) == 0
    for name in ("adam", "sgd"):
        jax.tree.map(np.testing.assert_array_equal, inner[name], fresh[name])
    keys = [np.asarray(x["add_noise"]["key"]["default"]) for x in (inner, fresh)]
    assert not np.array_equal(*keys)
