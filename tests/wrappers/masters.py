"""Runs with masters, by both ways to step: shared by their tests."""

import jax
import jax.numpy as jnp
import pytest

import jopt

PARAMS = {
    "half": jnp.linspace(-2.0, 2.0, 24, dtype=jnp.bfloat16).reshape(4, 6),
    "low": {"bias": jnp.linspace(0.1, 1.0, 6, dtype=jnp.float16)},
    "wide": jnp.linspace(1.0, 2.0, 5),
}


def grads_at(i, params=PARAMS):
    """The same for a parameter and for its wide copy."""
    return jax.tree.map(lambda p: jnp.cos(i + jnp.arange(1.0 * p.size)).reshape(p.shape), params)


def widened(params):
    return jax.tree.map(lambda p: p.astype(jnp.float32), params)


def as_given(masters, params=PARAMS):
    return jax.tree.map(lambda m, p: m.astype(p.dtype), masters, params)


def runner(tx, how):
    """One compiled program for a step: `update` and `apply_updates`, or `jopt.step`."""

    def step(g, state, params):
        if how == "step":
            return jopt.step(tx, g, state, params)
        updates, state = tx.update(g, state, params)
        return jopt.apply_updates(params, updates), state

    compiled = jax.jit(step)

    def run(params, steps, state=None, grads=grads_at):
        state = tx.init(params) if state is None else state
        for i in steps:
            params, state = compiled(grads(i), state, params)
        return params, state

    return run


def by_update(tx, *args, **kwargs):
    return runner(tx, "update")(*args, **kwargs)


def by_step(tx, *args, **kwargs):
    return runner(tx, "step")(*args, **kwargs)


RUNS = {"update": by_update, "step": by_step}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
