"""Kron: factors fitted share by share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.testing import compare

RNG = np.random.default_rng(0)
COUNT, EVERY, STEPS = 5, 3, 6


def factors(tx, params, grads):
    """Those of all matrices after each step: a step, a matrix, rows, columns."""

    def one(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        return (jopt.apply_updates(carry[0], updates), state), state["kron"]["triangle_1"]

    run = jax.jit(lambda p, g: jax.lax.scan(one, (p, tx.init(p)), g)[1])
    return np.stack([*run(params, grads).values()], 1)


def at(turn):
    """Fits at every third step, from the turn on."""
    return lambda t: jnp.where(t % EVERY == turn, 1.0, 0.0)


@pytest.mark.slow
def test_factors_are_fitted_a_share_at_a_step():
    params = {str(i): jnp.ones((3, 3)) for i in range(COUNT)}
    g = jnp.asarray(RNG.normal(size=(STEPS, COUNT, 3, 3)), jnp.float32)
    grads = {k: g[:, i] for i, k in enumerate(params)}
    found = factors(
        jopt.kron(spread=True, update_every=EVERY, update_probability=1 / EVERY), params, grads
    )
    whole = [factors(jopt.kron(update_probability=at(i)), params, grads) for i in range(EVERY)]
    for i, turn in enumerate((0, 0, 1, 1, 2)):
        np.testing.assert_allclose(found[:, i], whole[turn][:, i], rtol=1e-5, atol=1e-6)
        assert np.any(found[:, i] != whole[(turn + 1) % EVERY][:, i])


def test_as_often_as_asked_for():
    """Above one share at a step, some steps fit all."""
    tx = jopt.kron(spread=True, update_every=4, update_probability=0.5, b1=None)
    params = {str(i): jnp.ones((2, 2)) for i in range(4)}
    draw = lambda: jnp.asarray(RNG.normal(size=(400, 2, 2)), jnp.float32)  # noqa: E731
    found = factors(tx, params, {k: draw() for k in params})
    often = np.any(np.diff(found, axis=0) != 0, axis=(2, 3))
    assert abs(often.mean() - 0.5) < 0.06
    assert 0.2 < often.all(1).mean() < 0.45  # a third, and a quarter of the rest for each


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5,), (2, 2, 3)])
def test_what_is_no_matrix_is_fitted_together_as_each_is_alone(shape):
    """Bit for bit: those of a shape are one stack, with those that a leaf holds many of."""
    shapes = {"a": shape, "many": (3, *shape)}
    drawn = {k: jnp.asarray(RNG.normal(size=shape), jnp.float32) for k, shape in shapes.items()}

    @jax.jit
    def run(params):
        axes = {"many": f"layer {' '.join('hijk'[: len(shape)])}"} if "many" in params else None
        tx = jopt.kron(0.1, update_probability=0.7, axes=axes)

        def one(carry, t):
            p, state = carry
            updates, state = tx.update(jax.tree.map(lambda p: jnp.sin(9 * p + t), p), state, p)
            return (jopt.apply_updates(p, updates), state), None

        p, state = jax.lax.scan(one, (params, tx.init(params)), jnp.arange(4.0))[0]
        slots = {k: x for k, x in state["kron"].items() if isinstance(x, dict)}
        return {name: {k: x[name] for k, x in {"p": p, **slots}.items() if name in x} for name in p}

    alone = run({"a": drawn["a"]})
    compare.same_bits("kron", {"a": run(drawn)["a"]}, alone)
