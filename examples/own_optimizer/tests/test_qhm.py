"""The paper's lines in float64, and what users expect of any optimizer."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from quasihyperbolic import qhm

PARAMS = {"kernel": np.linspace(-1, 1, 6).reshape(3, 2), "bias": np.array([0.5, -0.5])}
GRADS = [jax.tree.map(lambda p, k=k: np.cos(3 * p + k), PARAMS) for k in range(5)]


def trained(tx, params, state=None, grads=GRADS):
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    state = tx.init(params) if state is None else state
    for g in grads:
        g = jax.tree.map(lambda x, p: jnp.asarray(x, p.dtype), g, params)
        params, state = step(g, state, params)
    return params, state


def as_dtype(dtype):
    return jax.tree.map(lambda p: jnp.asarray(p, dtype), PARAMS)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all((x == y).all() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def by_the_paper(p, grads, *, eta, beta, nu, decay):
    mu = np.zeros_like(p)
    for g in grads:
        g = g + decay * p
        mu = beta * mu + (1 - beta) * g
        p = p - eta * ((1 - nu) * g + nu * mu)
    return p


def test_it_follows_the_paper():
    with jax.enable_x64(True):
        params, _ = trained(qhm(0.1, 0.9, 0.7, weight_decay=0.01), as_dtype("float64"))
    for name in PARAMS:
        numbers = {"eta": 0.1, "beta": 0.9, "nu": 0.7, "decay": 0.01}
        wanted = by_the_paper(PARAMS[name], [g[name] for g in GRADS], **numbers)
        np.testing.assert_allclose(params[name], wanted, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes_stay_and_zero_gradients_make_no_nan(dtype):
    zeros = [jax.tree.map(np.zeros_like, PARAMS)] * 2
    params, state = trained(qhm(0.1), as_dtype(dtype), grads=zeros)
    same(params, as_dtype(dtype))
    assert all(p.dtype == dtype for p in jax.tree.leaves(params))
    assert state["qhm"]["mu"]["kernel"].dtype == "float32"


def test_what_is_saved_goes_on_bit_for_bit(tmp_path):
    tx = qhm(jopt.schedules.cosine(0.1, 5), state_dtype={"mu": "bfloat16"})
    whole = trained(tx, as_dtype("float32"))
    half = trained(tx, as_dtype("float32"), grads=GRADS[:2])
    jopt.save(tmp_path / "run.jopt", half, tx=tx)
    like = (as_dtype("float32"), tx.init(as_dtype("float32")))
    same(whole, trained(tx, *jopt.load(tmp_path / "run.jopt", like, tx=tx), grads=GRADS[2:]))


def test_no_edit_compiles_and_groups_are_groups():
    tx = qhm(0.1, groups={"off": jopt.group("bias$", freeze=True)})
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    params = as_dtype("float32")
    state = tx.init(params)
    for rate in (0.1, 0.01):
        state = jopt.set_hyperparams(state, learning_rate=rate)
        after, state = step(params, state, params)
    assert step._cache_size() == 1
    same(after["bias"], params["bias"])


def test_it_is_its_call():
    tx = qhm(0.1, nu=0.5)
    assert repr(tx) == "quasihyperbolic.qhm(learning_rate=0.1, nu=0.5)"
    assert pickle.loads(pickle.dumps(tx)) == tx == qhm(0.1, nu=0.5)
    with pytest.raises(jopt.JoptError, match="qhm: nu is out of range"):
        qhm(nu=2.0)
