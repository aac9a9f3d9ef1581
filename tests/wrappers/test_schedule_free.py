"""Schedule-free: against the authors' loop in float64, optax live, and in compositions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from tests.wrappers.runs import START, close, grad, run

RATE = jopt.schedules.warmup(jopt.schedules.constant(0.05), 5, init_value=0.0)


def by_hand(steps, b1, rate, power=2.0, edits=()):
    """The three sequences in full, x among them; the base is SGD with decay at y."""
    found = []
    z = {n: a.copy() for n, a in START.items()}
    x, total, most = dict(z), 0.0, 0.0
    for t in range(steps):
        y = {n: b1 * x[n] + (1 - b1) * z[n] for n in z}
        b1 = dict(edits).get(t, b1)
        most = max(most, rate(t))
        total += most**power
        c = most**power / total if total else 0.0
        for n in z:
            z[n] = z[n] - rate(t) * (grad(y[n], t) + 0.1 * y[n])
            x[n] = (1 - c) * x[n] + c * z[n]
        found.append(({n: b1 * x[n] + (1 - b1) * z[n] for n in z}, dict(x)))
    return found


@pytest.mark.parametrize("b1", [0.9, 1.0])
def test_a_plain_loop(b1, x64):
    tx = jopt.schedule_free(jopt.sgd(RATE, weight_decay=0.1), RATE, b1=b1)
    pairs = zip(run(tx, 50), by_hand(50, b1, lambda t: float(RATE(t))), strict=True)
    for (params, state), (y, x) in pairs:
        close(params, y)
        close(jopt.eval_params(state, params), x)


def test_an_edited_b1_leaves_the_average(x64):
    edits = [(7, 0.5)]
    change = [(7, lambda s: jopt.set_hyperparams(s, b1=0.5))]
    tx = jopt.schedule_free(jopt.sgd(0.05, weight_decay=0.1), 0.05)
    pairs = zip(run(tx, 20, at=change), by_hand(20, 0.9, lambda t: 0.05, edits=edits), strict=True)
    for (params, state), (y, x) in pairs:
        close(params, y)
        close(jopt.eval_params(state, params), x)


def test_optax(x64):
    base = optax.chain(
        optax.scale_by_rms(0.99, eps=1e-8, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(RATE),
    )
    theirs = optax.contrib.schedule_free(base, RATE, b1=0.9)
    params = jax.tree.map(jnp.asarray, START)
    state = theirs.init(params)

    @jax.jit
    def one(params, state, t):
        grads = jax.tree.map(lambda p: grad(p, t), params)
        updates, state = theirs.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    ours = jopt.adamw(RATE, b1=0.0, b2=0.99, weight_decay=0.1)
    shifted = lambda t: RATE(t + 1)  # noqa: E731 - optax reads the rate of the next step
    found = run(jopt.schedule_free(ours, shifted), 50)
    for t, (p, s) in enumerate(found):
        with jax.numpy_dtype_promotion("standard"):
            params, state = one(params, state, jnp.float64(t))
        close(p, params)
        close(jopt.eval_params(s, p), optax.contrib.schedule_free_eval_params(state, params))


def test_it_rests_and_leaves_frozen_leaves():
    groups = {"cold": jopt.group("^cold", freeze=True)}
    tx = jopt.schedule_free(jopt.skip_nonfinite(jopt.sgd(1.0, groups=groups)), 1.0, b1=1.0)
    params = {"cold": jnp.float32(2), "w": jnp.float32(0)}
    state = tx.init(params)
    for g in (1.0, np.inf, 1.0):
        params, state = jopt.step(tx, {"cold": None, "w": jnp.float32(g)}, state, params)
    assert set(state["schedule_free"]["z"]) == {"w"}
    assert float(state["schedule_free"]["z"]["w"]) == -2
    assert jopt.eval_params(state, params) == {"cold": 2, "w": -1.5}


def test_routes_and_foreign_transforms():
    of = lambda tx: jopt.schedule_free(tx, 1.0)  # noqa: E731
    tx = jopt.route(of(optax.sgd(1.0)), b=("^b$", of(jopt.sgd(1.0))))
    params = {"b": jnp.float32(0), "w": jnp.float32(0)}
    state = tx.init(params)
    for _ in range(2):
        params, state = jopt.step(tx, jax.tree.map(jnp.ones_like, params), state, params)
    np.testing.assert_allclose([*jopt.eval_params(state, params).values()], -1.5, rtol=1e-6)
