"""Recipes that papers and libraries have a name for."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

STEPS = 30
P = np.random.default_rng(0).normal(size=(3, 2))
GRADS = np.random.default_rng(1).normal(size=(STEPS, 3, 2))


def schedule_free_radam(eta, b1, b2, eps, decay):
    """As the authors' code has it: y where gradients are, z where steps lead."""
    y = z = P
    v, total, most = 0, 0.0, 0.0
    for t, g in enumerate(GRADS, 1):
        end = 2 / (1 - b2) - 1
        rho = end - 2 * t * b2**t / (1 - b2**t)
        r = 0.0
        if rho > 4:
            r = np.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
        rate = eta * r
        most = max(most, rate)
        total += most**2
        c = most**2 / total if total else 0.0
        v = b2 * v + (1 - b2) * g**2
        d = g / (np.sqrt(v / (1 - b2**t)) + eps) if rho > 4 else g
        d = d + decay * y
        y = (1 - c) * y + c * z + rate * (b1 * (1 - c) - 1) * d
        z = z - rate * d
    return y


@pytest.mark.usefixtures("x64")
def test_schedule_free_radam():
    tx = jopt.recipes.schedule_free_radam(0.1, b1=0.9, b2=0.9, weight_decay=0.1)

    def one(carry, g):
        return jopt.step(tx, g, carry[1], carry[0]), None

    found = jax.jit(lambda g: jax.lax.scan(one, (jnp.asarray(P), tx.init(P)), g)[0][0])(GRADS)
    np.testing.assert_allclose(found, schedule_free_radam(0.1, 0.9, 0.9, 1e-8, 0.1), rtol=1e-12)


GROUPS = {"still": jopt.group("b", weight_decay=0.0)}
SAME = {
    "stable_adamw": (
        jopt.recipes.stable_adamw(0.1, weight_decay=0.1, max_rms=0.5, groups=GROUPS),
        jopt.stable(jopt.adamw(0.1, 0.9, 0.99, weight_decay=0.1, groups=GROUPS), max_rms=0.5),
    ),
    "ranger": (
        jopt.recipes.ranger(0.1, weight_decay=0.1, sync_period=2, maximize=True),
        jopt.lookahead(
            jopt.radam(0.1, 0.95, 0.999, 1e-5, weight_decay=0.1, maximize=True), sync_period=2
        ),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_a_name_is_its_parts(name):
    named, parts = SAME[name]
    params = {"w": jnp.asarray(P, jnp.float32), "b": jnp.ones(2)}
    a, b = (tx.update(params, tx.init(params), params) for tx in (named, parts))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, a, b))
    assert pickle.loads(pickle.dumps(named)) == named == eval(repr(named))


def test_a_rectified_schedule_of_a_schedule():
    linear = jopt.schedules.linear(1.0, 0.0, 10)
    alone, both = jopt.schedules.rectified(1.0, b2=0.9), jopt.schedules.rectified(linear, b2=0.9)
    for t in (0, 4, 7):
        np.testing.assert_allclose(both(t), alone(t) * linear(t), rtol=1e-6)
    with pytest.raises(jopt.ConfigError, match="b2 is out of range"):
        jopt.schedules.rectified(1.0, b2=1.0)
