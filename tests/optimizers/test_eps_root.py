"""`eps_root` and `nesterov` of Adam's relatives: optax live in float64, and plain loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.checkpoint.config import configuration

STEPS = 20
BOTH = {"eps_root": 1e-3, "nesterov": True}


def gradient(t):
    return np.sin(np.arange(1.0, 7.0) * t) * np.logspace(-3, 2, 6)


CASES = {
    "adam": (jopt.adam(0.1, eps_root=1e-3), optax.adam(0.1, eps_root=1e-3)),
    "adam nesterov": (jopt.adam(0.1, nesterov=True), optax.adam(0.1, nesterov=True)),
    "adam both": (jopt.adam(0.1, 0.8, 0.95, **BOTH), optax.adam(0.1, 0.8, 0.95, **BOTH)),
    "adamw both": (
        jopt.adamw(0.1, weight_decay=0.2, **BOTH),
        optax.adamw(0.1, weight_decay=0.2, **BOTH),
    ),
    # With an epsilon of 0: torch's stands under the bias correction, optax's behind it.
    "radam": (
        jopt.radam(0.1, 0.9, 0.99, 0.0, eps_root=1e-3),
        optax.radam(0.1, 0.9, 0.99, 0.0, eps_root=1e-3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_optax_with_the_same(name):
    with jax.enable_x64(True):
        found = []
        for tx in CASES[name]:
            p = jnp.linspace(-1.0, 2.0, 6)
            state = tx.init(p)

            @jax.jit
            def turn(g, state, p, tx=tx):
                with jax.numpy_dtype_promotion("standard"):
                    u, state = tx.update(g, state, p)
                return p + u, state

            for t in range(1, STEPS + 1):
                p, state = turn(jnp.asarray(gradient(t)), state, p)
            found.append(np.asarray(p))
    assert found[0].dtype == np.float64
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-12)


def test_nadam_has_it_where_adam_has_it():
    eta, b1, b2, eps, root, psi = 0.1, 0.9, 0.99, 1e-8, 1e-3, 4e-3
    p = np.linspace(-1.0, 2.0, 6)
    mu, nu, product = np.zeros(6), np.zeros(6), 1.0
    with jax.enable_x64(True):
        tx = jopt.nadam(eta, b1, b2, eps, eps_root=root)
        q = jnp.asarray(p)
        state, update = tx.init(q), jax.jit(tx.update)
        for t in range(1, STEPS + 1):
            g = gradient(t)
            m, ahead = (b1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
            product *= m
            mu, nu = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * g**2
            over = (1 - m) / (1 - product) * g + ahead / (1 - product * ahead) * mu
            p = p - eta * over / (np.sqrt(nu / (1 - b2**t) + root) + eps)
            u, state = update(jnp.asarray(g), state, q)
            q = q + u
    np.testing.assert_allclose(np.asarray(q), p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [jopt.adam, jopt.adamw, jopt.nadam, jopt.radam])
def test_without_it_nothing_is_new_in_state_or_file(make):
    p = jnp.ones(3)
    plain, on = make(1e-3), make(1e-3, eps_root=0.5)
    (node,) = plain.init(p).values()
    assert "eps_root" not in node["hyperparams"]["default"]
    assert float(jopt.hyperparams(on.init(p))[make.__name__]["default"]["eps_root"]) == 0.5
    (said,) = configuration(plain).values()
    assert said["switched_off"] == []
    assert "nesterov" not in said["options"]


def test_nesterov_is_recorded():
    assert configuration(jopt.adam(nesterov=True))["adam"]["options"]["nesterov"] is True
