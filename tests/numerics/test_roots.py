"""The square root that differentiates at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.core.spec import REGISTRY
from jopt.numerics import safe_sqrt
from tests.catalog import CATALOG


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_are_those_of_sqrt_bit_for_bit(dtype):
    x = jnp.asarray(np.random.default_rng(0).lognormal(sigma=3, size=1000), dtype)
    x = jnp.concatenate([x, jnp.asarray([0.0, -0.0, jnp.inf, jnp.nan, -1.0], dtype)])
    for root in (safe_sqrt, jax.jit(safe_sqrt)):
        got, want = np.asarray(root(x)), np.asarray(jnp.sqrt(x))
        assert got.dtype == want.dtype
        assert got.tobytes() == want.tobytes()


def test_derivatives_are_those_of_sqrt_and_zero_at_zero():
    for x in (0.25, 2.0, 1e-30):
        assert jax.grad(safe_sqrt)(x) == jax.grad(jnp.sqrt)(x)
        assert jax.jvp(safe_sqrt, (x,), (1.0,))[1] == jax.jvp(jnp.sqrt, (x,), (1.0,))[1]
    np.testing.assert_allclose(jax.grad(jax.grad(safe_sqrt))(2.0), -0.25 * 2**-1.5, rtol=1e-6)
    assert jax.grad(safe_sqrt)(0.0) == 0
    assert jax.grad(jax.grad(safe_sqrt))(0.0) == 0
    assert np.isnan(jax.grad(safe_sqrt)(jnp.nan))


LEAFWISE = [e for e in CATALOG if not REGISTRY[e.name].extra and REGISTRY[e.name].sparse == "no"]


@pytest.mark.parametrize("entry", [e for e in LEAFWISE if e.reverse_mode], ids=lambda e: e.name)
def test_optimizers_differentiate_at_a_zero_gradient(entry):
    # The gradient of two steps with respect to the learning rate and the first gradient.
    tx = entry.make()
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(2,) * max(entry.ndims[0], 2)))}
    zeros = jax.tree.map(jnp.zeros_like, params)

    def outcome(learning_rate, grads):
        state = jopt.set_hyperparams(tx.init(params), learning_rate=learning_rate)
        p = params
        for g in (grads, zeros):
            updates, state = tx.update(g, state, p)
            p = jopt.apply_updates(p, updates)
        return jnp.sum(p["w"])

    for x in jax.tree.leaves(jax.grad(outcome, argnums=(0, 1))(jnp.float32(0.1), zeros)):
        assert np.isfinite(x).all()
