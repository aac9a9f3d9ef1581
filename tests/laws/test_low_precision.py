"""Half-precision parameters over thousands of steps: no NaN, and moments that do not stall.

A running mean kept in bfloat16 stops near half its limit once (1 - b2)·g² falls under half a
unit in its last place. Slots here are float32, so the moments follow float64.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.testing.subject import wanted
from tests.catalog import CATALOG
from tests.laws.harness import each, step

STEPS = 3000
SCALES = (0.0, 1e-30, 1e-16, 1e-8, 1e-3, 1.0)
HALF = ("bfloat16", "float16")
# What float32 can hold of a square: below, zero is as near as it gets.
TINY = float(np.finfo(np.float32).tiny)


def scanned(entry, tx, params, grads, steps):
    """Parameters and state after `steps` steps through `grads`, over and over."""

    def body(carry, t):
        g = jax.tree.map(lambda x: x[t % len(jax.tree.leaves(grads)[0])], grads)
        return step(entry, tx, *carry, g), None

    def all_steps(params, state):
        return jax.lax.scan(body, (params, state), jnp.arange(steps))[0]

    return jax.jit(all_steps)(params, tx.init(params))


@each
@pytest.mark.parametrize("dtype", HALF)
def test_no_nan_over_thousands_of_steps(entry, dtype):
    # One leaf for each scale of gradient, zero included.
    tx = entry.make()
    shape = (4, 3) if 2 in entry.ndims else (8,)
    rng = np.random.default_rng(0)
    params = {f"{scale:g}": jnp.asarray(rng.normal(size=shape), dtype) for scale in SCALES}
    # Each gradient comes back with the other sign: some optimizers move by a share of the
    # parameter, and a drift would carry it beyond float16, as it should.
    base = rng.normal(size=(4, *shape))
    cycle = np.stack([base, -base], axis=1).reshape(8, *shape)
    grads = {f"{scale:g}": jnp.asarray(scale * cycle, dtype) for scale in SCALES}
    steps = 50 if wanted(tx) & {"value_fn"} else STEPS
    after = scanned(entry, tx, params, grads, steps)
    for x in jax.tree.leaves(after):
        assert not np.isnan(np.asarray(x, np.float64)).any()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "entry", [e for e in CATALOG if e.nu_is_mean_square], ids=lambda entry: entry.name
)
def test_nu_follows_float64_within_a_percent(entry, scale, dtype):
    tx = entry.factory(learning_rate=1e-3, weight_decay=0.0)
    rng = np.random.default_rng(1)
    grads = jnp.asarray(scale * rng.normal(size=(7, 64)), dtype)
    params = {"w": jnp.ones(64, dtype)}
    _, state = scanned(entry, tx, params, {"w": grads}, STEPS)
    b2 = tx.config["b2"]
    seen, nu = np.asarray(grads, np.float64), np.zeros(64)
    for t in range(STEPS):
        nu = b2 * nu + (1 - b2) * seen[t % 7] ** 2
    found = np.asarray(state[entry.name]["nu"]["w"], np.float64)
    assert np.max(np.abs(found - nu) / np.maximum(nu, 100 * TINY)) < 0.01


def test_constant_gradients_reach_the_limit_of_nu():
    # The plain case: nu of a constant gradient tends to its square, whatever the dtype.
    tx = jopt.adam(1e-3)
    params = {"w": jnp.zeros(4, "bfloat16")}
    grads = {"w": jnp.full((1, 4), 0.5, "bfloat16")}
    entry = next(e for e in CATALOG if e.factory is jopt.adam)
    _, state = scanned(entry, tx, params, grads, STEPS)
    np.testing.assert_allclose(state["adam"]["nu"]["w"], 0.25 * (1 - 0.999**STEPS), rtol=1e-4)
