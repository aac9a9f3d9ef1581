"""What stands in front of an optimizer and makes other gradients, or none: by plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest

import jopt
from jopt.interop.optax import export_state, import_state
from tests.wrappers.runs import START, close, grad, run


@pytest.mark.parametrize("most", [1.0, None])
def test_mars(most, x64):
    found = run(jopt.mars(jopt.sgd(0.05), max_norm=most), 30)
    p = {n: x.copy() for n, x in START.items()}
    before = dict.fromkeys(p, 0.0)
    for t, (params, _) in enumerate(found):
        for n in p:
            g = grad(p[n], t)
            c = g + 0.025 * 0.95 / 0.05 * (g - before[n])
            before[n] = g
            if most is not None and np.linalg.norm(c) > most:
                c = c * most / np.linalg.norm(c)
            p[n] = p[n] - 0.05 * c
        close(params, p)


def test_mars_with_the_gradient_of_this_batch_where_the_parameters_were(x64):
    tx = jopt.mars(jopt.sgd(0.05), max_norm=None, exact=True)
    params = before = jax.tree.map(jnp.asarray, START)
    state, p, last = tx.init(params), dict(START), dict(START)
    assert "previous" not in state["mars"]
    step = jax.jit(lambda g, s, p, g_: jopt.step(tx, g, s, p, previous_grad=g_))
    for t in range(20):
        g, g_ = ({n: grad(np.asarray(at[n]), t) for n in at} for at in (params, before))
        before, (params, state) = params, step(g, state, params, g_)
        c = {n: grad(x, t) + 19 / 40 * (grad(x, t) - grad(last[n], t)) for n, x in p.items()}
        last, p = p, {n: x - 0.05 * c[n] for n, x in p.items()}
        close(params, p)
    with pytest.raises(jopt.ConfigError, match="previous_grad"):
        tx.update(params, state, params)


@pytest.mark.parametrize("eta", [None, 0.01])
def test_sam_and_asam(eta, x64):
    base = jopt.sgd(0.05, groups={"cold": jopt.group("^b$", freeze=True)})
    tx = jopt.sam(base, rho=0.2) if eta is None else jopt.asam(base, rho=0.2, eta=eta)
    params = jax.tree.map(jnp.asarray, START)
    state = tx.init(params)
    loss = lambda p: jnp.sum(p["w"] ** 4) / 4 + jnp.sum(p["b"]) * jnp.sum(p["w"])  # noqa: E731
    step = jax.jit(lambda s, p: jopt.step(tx, jax.grad(loss)(p), s, p, value_fn=loss))
    w, b = START["w"].copy(), START["b"].sum()
    for _ in range(20):
        params, state = step(state, params)
        g = w**3 + b
        t = 1.0 if eta is None else np.abs(w) + eta
        there = w + 0.2 * t**2 * g / np.linalg.norm(t * g)
        w = w - 0.05 * (there**3 + b)
        np.testing.assert_allclose(params["w"], w, rtol=1e-10)
    close(params["b"], START["b"])


def test_sam_of_no_gradient_stays():
    tx, w = jopt.sam(jopt.sgd(1.0)), jnp.zeros(2)
    assert not tx.update(w, tx.init(w), w, value_fn=lambda w: jnp.sum(w**2))[0].any()


IN_TURN = {
    "alone": lambda up: up(jopt.adamw(jopt.schedules.linear(0.1, 0.0, 20))),
    "what stands behind": lambda up: jopt.schedule_free(up(jopt.sgd(0.05)), 0.05),
    "rounds": lambda up: up(jopt.ema(jopt.sgd(0.05, momentum=0.9), decay=0.5)),
}


@pytest.mark.parametrize("name", IN_TURN)
def test_in_turn_two_updates_are_one_with_the_loss_as_a_function(name):
    loss = lambda p: jnp.sum(p["w"] ** 4) / 4 + jnp.sum(p["b"] ** 2 * p["w"][0, 0])  # noqa: E731
    up = functools.partial(jopt.asam, rho=0.2) if name == "alone" else jopt.sam
    one, two = IN_TURN[name](up), IN_TURN[name](functools.partial(up, in_turn=True))
    params = jax.tree.map(lambda x: jnp.asarray(x, "float32"), START)

    @jax.jit
    def both(p, s, q, r):
        g = jax.grad(loss)
        p, s = jopt.step(one, g(p), s, p, value_fn=loss)
        updates, r = two.update(g(q), r, q)
        away = jopt.apply_updates(q, updates)
        back = jopt.eval_params(r, away)
        kept = jopt.eval_params(r, q)
        q, r = jopt.step(two, g(away), r, away)
        return p, s, q, r, (away, back, kept)

    p, s, q, r = params, one.init(params), params, two.init(params)
    for _ in range(5):
        p, s, q, r, (away, back, kept) = both(p, s, q, r)
        close(p, q, 1e-5)
        close(jopt.eval_params(s, p), jopt.eval_params(r, q), 1e-5)
        close(back, kept)
        assert np.abs(away["w"] - q["w"]).max() > 1e-3


def test_in_turn_optax_goes_over_and_back(x64):
    theirs = optax.contrib.sam(
        optax.adam(0.05), optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    )
    tx = jopt.sam(jopt.adam(0.05), rho=0.1, in_turn=True)
    params = jax.tree.map(jnp.asarray, START)
    step = jax.jit(lambda tx, g, s, p: tx.update(g, s, p), static_argnums=0)
    with jax.numpy_dtype_promotion("standard"):
        p, s, q, r = params, tx.init(params), params, theirs.init(params)
        for t in range(9):
            q, before = p, r
            g = jax.tree.map(lambda x, t=t: grad(x, t), p)
            u, s = step(tx, g, s, p)
            v, r = step(theirs, g, r, q)
            close(u, v)
            p = jopt.apply_updates(p, u)
        again = import_state(tx, q, before, count=4)
        close(step(tx, g, again, q)[0], v)
        back = export_state(tx, p, s, theirs.init(params))
        jax.tree.map(np.testing.assert_array_equal, back.cache, r.cache)
        assert back.steps_since_sync == r.steps_since_sync == 1


def test_in_turn_nothing_stands_behind_what_is_around():
    inside = jopt.sam(jopt.sgd(0.1), in_turn=True)
    for around in (jopt.skip_nonfinite(inside), jopt.route(jopt.sgd(0.1), a=("a", inside))):
        with pytest.raises(jopt.ConfigError, match="Put ema inside"):
            jopt.ema(around)
    w = jnp.ones(2)
    tx = jopt.skip_nonfinite(inside)
    state, step = tx.init(w), jax.jit(tx.update)
    away, state = step(w, state, w)
    none, state = step(w * jnp.nan, state, w + away)
    assert not none.any()
    back, state = step(w, state, w + away)
    close(away + back, -0.1 * w, 1e-5)
    bare = jopt.sam(jopt.identity(), in_turn=True)
    with pytest.raises(jopt.ConfigError, match="no optimizer"):
        bare.update(w, bare.init(w), w)
    with pytest.raises(jopt.ConfigError, match="yes or no"):
        jopt.sam(jopt.sgd(0.1), in_turn=2)


def every_third(step, **extra):
    return step % 3 == 0


def test_conditionally():
    tx = jopt.conditionally(jopt.sgd(jopt.schedules.linear(1.0, 0.0, 4)), every_third)
    p, state = jnp.float32(0), tx.init(jnp.float32(0))
    for _ in range(6):  # steps at 0 and 3, with the rates 1 and 0.75
        p, state = jopt.step(tx, jnp.float32(1), state, p)
    assert float(p) == -1.75
    tx = jopt.chain(
        jopt.conditionally(jopt.clip_by_value(0.5), every_third, otherwise="pass"), jopt.sgd(1.0)
    )
    p, state = jnp.float32(0), tx.init(jnp.float32(0))
    for _ in range(2):
        p, state = jopt.step(tx, jnp.float32(1), state, p)
    assert float(p) == -1.5
    tx = jopt.conditionally(jopt.sgd(1.0), every_third, otherwise="pass")
    with pytest.raises(jopt.ConfigError, match="no step"):
        tx.update(p, tx.init(p), p)
