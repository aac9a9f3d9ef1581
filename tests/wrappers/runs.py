"""Runs of a wrapper beside a plain loop: gradients that depend on where they are taken."""

import jax
import jax.numpy as jnp
import numpy as np

import jopt

START = {"b": np.linspace(-1.0, 1.0, 3), "w": np.linspace(0.5, 2.0, 6).reshape(2, 3)}


def grad(p, t):
    """The gradient of one leaf at step t, by numpy or jax."""
    np_ = jnp if isinstance(p, jax.Array) else np
    return np_.sin(3 * p) + 0.5 * p + 0.1 * t


def run(tx, steps, params=None, at=(), **extra):
    """Parameters and state after each step of one compiled program.

    `at`: edits of the state, by the step before which they are made; `extra`: functions of
    parameters and step.
    """
    params = jax.tree.map(jnp.asarray, START if params is None else params)
    state = tx.init(params)

    @jax.jit
    def one(params, state, t):
        grads = jax.tree.map(lambda p: grad(p, t), params)
        return jopt.step(tx, grads, state, params, **{k: f(params, t) for k, f in extra.items()})

    found = []
    for t in range(steps):
        state = dict(at).get(t, lambda s: s)(state)
        params, state = one(params, state, jnp.asarray(t, jax.tree.leaves(params)[0].dtype))
        found.append((params, state))
    return found


def close(a, b, rtol=1e-10):
    """Whether two trees are alike."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, rtol * 1e-2), a, b)
