"""The paper's lines in float64, and the laws that every optimizer of jopt keeps."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
import jopt.testing
from quasihyperbolic import qhm

PARAMS = {"kernel": np.linspace(-1, 1, 6).reshape(3, 2), "bias": np.array([0.5, -0.5])}
GRADS = [jax.tree.map(lambda p, k=k: np.cos(3 * p + k), PARAMS) for k in range(5)]


def as_dtype(dtype, tree=PARAMS):
    return jax.tree.map(lambda p: jnp.asarray(p, dtype), tree)


def by_the_paper(p, grads, *, eta, beta, nu, decay):
    mu = np.zeros_like(p)
    for g in grads:
        g = g + decay * p
        mu = beta * mu + (1 - beta) * g
        p = p - eta * ((1 - nu) * g + nu * mu)
    return p


def test_it_follows_the_paper():
    with jax.enable_x64(True):
        tx, params = qhm(0.1, 0.9, 0.7, weight_decay=0.01), as_dtype("float64")
        state = tx.init(params)
        for g in GRADS:
            params, state = jopt.step(tx, as_dtype("float64", g), state, params)
    for name in PARAMS:
        numbers = {"eta": 0.1, "beta": 0.9, "nu": 0.7, "decay": 0.01}
        wanted = by_the_paper(PARAMS[name], [g[name] for g in GRADS], **numbers)
        np.testing.assert_allclose(params[name], wanted, rtol=1e-13)


def test_it_keeps_the_laws():
    jopt.testing.check(qhm(0.1, 0.9), params=as_dtype("float32"))


def test_no_edit_compiles_and_groups_are_groups():
    tx = qhm(0.1, groups={"off": jopt.group("bias$", freeze=True)})
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    params = as_dtype("float32")
    state = tx.init(params)
    for rate in (0.1, 0.01):
        state = jopt.set_hyperparams(state, learning_rate=rate)
        after, state = step(params, state, params)
    assert step._cache_size() == 1
    assert (after["bias"] == params["bias"]).all()


def test_it_is_its_call():
    tx = qhm(0.1, nu=0.5)
    assert repr(tx) == "quasihyperbolic.qhm(learning_rate=0.1, nu=0.5)"
    assert pickle.loads(pickle.dumps(tx)) == tx == qhm(0.1, nu=0.5)
    with pytest.raises(jopt.JoptError, match="qhm: nu is out of range"):
        qhm(nu=2.0)
