"""Rounds whose length a schedule says, beside optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jopt


def test_a_schedule_of_rounds_is_optaxs():
    def every(rounds):
        return jnp.minimum(1 + rounds, 3)

    def run(tx, params, grads):
        def step(carry, g):
            p, state = carry
            updates, state = tx.update(g, state, p)
            p = optax.apply_updates(p, updates)
            return (p, state), p

        return jax.jit(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g))(params, grads)

    grads = jnp.asarray(np.random.default_rng(0).normal(size=(11, 3)), "float32")
    (_, state), mine = run(jopt.accumulate(jopt.sgd(0.1), every), jnp.ones(3), grads)
    with jax.numpy_dtype_promotion("standard"):
        want = run(optax.MultiSteps(optax.sgd(0.1), every), jnp.ones(3), grads)[1]
    np.testing.assert_allclose(mine, want, rtol=1e-6)
    assert (int(state["accumulate"]["rounds"]), int(state["accumulate"]["micro"])) == (4, 2)
