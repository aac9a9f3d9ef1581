"""A scaled loss: the scale is torch's, live; gradients come back in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt


@pytest.mark.parametrize("interval", [1, 3])
def test_the_scale_is_torchs(interval):
    numbers = {"growth_factor": 3.0, "backoff_factor": 0.25, "growth_interval": interval}
    tx = jopt.loss_scale(jopt.sgd(0.125), init_scale=1024.0, **numbers)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, **numbers)
    p = torch.nn.Parameter(torch.ones(3))
    opt = torch.optim.SGD([p], lr=0.125)
    params = {"w": jnp.ones(3)}
    state = tx.init(params)
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    for t in range(40):
        bad = t in (2, 3, 11, 12, 13, 30)
        g = np.full(3, np.inf if bad else 0.5 + t, np.float32) * scaler.get_scale()
        scaler.scale(torch.zeros(()))  # which makes the scale
        p.grad = torch.tensor(g)
        scaler.step(opt)
        scaler.update()
        params, state = step({"w": jnp.asarray(g)}, state, params)
        assert float(jopt.loss_scale_of(state)) == scaler.get_scale()
        np.testing.assert_allclose(params["w"], p.detach().numpy(), rtol=1e-6)
    assert int(state["loss_scale"]["total"]["default"]) == 6


def test_small_gradients_in_half_precision_and_grad():
    tx = jopt.loss_scale(jopt.adam(0.5, eps=0.0), init_scale=2.0**15)
    params = {"w": jnp.zeros(2, "float16")}
    state = tx.init(params)
    true = 2.0**-26  # 0 in float16, which the scaled one is not
    g = {"w": jnp.full(2, true * 2.0**15, "float16")}
    updates, state = tx.update(g, state, params, grad=g)
    np.testing.assert_allclose(updates["w"], -0.5, rtol=1e-6)
    np.testing.assert_allclose(state["adam"]["mu"]["w"], 0.1 * true, rtol=1e-5)


def test_an_overflow_costs_a_round_outside_and_one_gradient_inside():
    for tx, moved in (
        (jopt.accumulate(jopt.loss_scale(jopt.sgd(1.0), init_scale=2.0), 2), -1.0),
        (jopt.loss_scale(jopt.accumulate(jopt.sgd(1.0), 2), init_scale=2.0), -2.5),
    ):
        params, state = jnp.float32(0), tx.init(jnp.float32(0))
        for g in (2.0, np.inf, 1.0, 1.0, 2.0):
            g = jnp.float32(g)
            params, state = jopt.step(tx, g, state, params)
        assert float(params) == moved, tx
        assert float(jopt.loss_scale_of(state)) == 1.0
