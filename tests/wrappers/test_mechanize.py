"""Mechanic: a plain loop, optax live, its state over and back, and gradients that are missing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest

import jopt
from jopt.interop.optax import export_state, import_state
from tests.wrappers.runs import START, close, grad, run


def by_hand(steps, *, momentum, decay=1e-2, eps=1e-8, s0=1e-6, n=6):
    start = np.concatenate([x.ravel() for x in START.values()])
    p, m_base = start.copy(), 0.0
    beta = 1 - 0.1 ** np.arange(1, n + 1)
    s, r, m, v = np.full(n, s0), np.zeros(n), np.zeros(n), np.zeros(n)
    for t in range(steps):
        g = grad(p, t)
        m_base = momentum * m_base + g
        way = (p - start) / (s.sum() + eps)
        pull = g + decay * s.sum() * np.linalg.norm(g) / (np.linalg.norm(p) + eps) * p
        h = way @ pull
        r = beta * r - s * np.clip(h, -m, m)
        m = np.maximum(beta * m, abs(h) + eps)
        v = beta**2 * v + h**2
        s = (s0 / n * m + np.maximum(r, 0)) / (np.sqrt(v) + eps)
        p = start + s.sum() * (way - m_base)
    return p


@pytest.mark.parametrize("numbers", [{}, {"decay": 0.5, "eps": 1e-3, "n": 4}])
def test_a_plain_loop(numbers, x64):
    names = {"decay": "weight_decay", "s0": "s_init", "n": "num_betas"}
    ours = {names.get(k, k): x for k, x in numbers.items()}
    found = run(jopt.mechanize(jopt.sgd(1.0, momentum=0.9), **ours), 50)[-1][0]
    want = by_hand(50, momentum=0.9, **numbers)
    close(np.concatenate([jnp.ravel(x) for x in found.values()]), want)
    assert np.abs(want - by_hand(0, momentum=0.9)).max() > 1e-3


def test_optax_goes_over_and_back(x64):
    theirs = optax.contrib.mechanize(optax.sgd(1.0, momentum=0.9))
    tx = jopt.mechanize(jopt.sgd(1.0, momentum=0.9))
    params = jax.tree.map(jnp.asarray, START)

    def runs(tx, params, state, steps):
        step = jax.jit(lambda g, s, p: tx.update(g, s, p))
        for t in steps:
            updates, state = step(jax.tree.map(lambda p, t=t: grad(p, t), params), state, params)
            params = jopt.apply_updates(params, updates)
        return params, state

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        reached, old = runs(theirs, params, theirs.init(params), range(40))
        close(runs(tx, params, tx.init(params), range(40))[0], reached)
        state = import_state(tx, reached, old)
        close(
            runs(tx, reached, state, range(40, 50))[0], runs(theirs, reached, old, range(40, 50))[0]
        )
        back = export_state(tx, reached, state, theirs.init(params))
        jax.tree.map(np.testing.assert_array_equal, back, old)


def test_what_has_no_gradient_stays_and_a_round_is_its_mean():
    params = jax.tree.map(jnp.asarray, {**START, "idle": np.ones(2), "still": np.ones(2)})
    base = jopt.sgd(1.0, groups={"cold": jopt.group("still", freeze=True)})
    each, round_ = jopt.mechanize(base), jopt.mechanize(jopt.accumulate(base, every=2))
    states = [each.init(params), round_.init(params)]
    moved = [params, params]
    steps = [jax.jit(lambda g, s, p, tx=tx: jopt.step(tx, g, s, p)) for tx in (each, round_)]
    for t in range(4):
        g = {**jax.tree.map(lambda x, t=t: grad(x, t), moved[0]), "idle": None}
        moved[0], states[0] = steps[0](g, states[0], moved[0])
        for sign in (-1, 1):
            own = {k: x if x is None else x + 0.5 * sign for k, x in g.items()}
            moved[1], states[1] = steps[1](own, states[1], moved[1])
    close(moved[0], moved[1], 1e-5)
    for name in ("idle", "still"):
        np.testing.assert_array_equal(moved[0][name], params[name])
    assert np.abs(moved[0]["w"] - params["w"]).max() > 0
    with pytest.raises(jopt.ConfigError):
        jopt.mechanize(base, num_betas=0)
    with pytest.raises(jopt.ConfigError):
        jopt.mechanize(base, s_init=jopt.schedules.linear(1.0, 0.0, 3))


@pytest.mark.parametrize(
    "made", [jopt.mechanize, lambda tx: jopt.lookahead(tx, sync_period=2, reset_state=True)]
)
@pytest.mark.parametrize("inner", [jopt.momo, lambda: jopt.accumulate(jopt.momo(), every=2)])
def test_what_asks_for_the_loss_goes_inside(made, inner):
    tx, params = made(inner()), {"w": jnp.ones(2)}
    state = tx.init(params)
    after = jax.eval_shape(lambda v: tx.update(params, state, params, value=v)[1], 1.0)
    assert jax.tree.structure(after) == jax.tree.structure(state)
