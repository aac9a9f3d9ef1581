"""What stands in front of an optimizer and makes other gradients, or none: by plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
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
