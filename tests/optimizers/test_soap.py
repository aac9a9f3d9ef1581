"""SOAP: bases renewed share by share, matrices in stacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

RNG = np.random.default_rng(0)


def steps(tx, params, grads):
    """Parameters, updates and state after each gradient of a row."""

    def one(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        carry = jopt.apply_updates(carry[0], updates), state
        return carry, (updates, state)

    return jax.jit(lambda p, g: jax.lax.scan(one, (p, tx.init(p)), g)[1])(params, grads)


def test_bases_are_renewed_a_share_at_a_step():
    count, every = 5, 3
    params = {str(i): jnp.ones((3, 3)) for i in range(count)}
    g = RNG.normal(size=(2 * every + 1, count, 3, 3))
    grads = {str(i): jnp.asarray(g[:, i], jnp.float32) for i in range(count)}
    runs = [
        steps(jopt.soap(0.1, update_every=every, spread=s), params, grads)[1] for s in (True, False)
    ]
    changed = []
    for state in runs:
        bases = np.stack([state["soap"]["basis_short"][str(i)] for i in range(count)], 1)
        changed.append(np.any(np.diff(bases, axis=0) != 0, axis=(2, 3)))
    # The first step made all of them; after it each is renewed once in three steps, or all at once.
    for one in range(0, 2 * every, every):
        assert (changed[0][one : one + every].sum(0) == 1).all()
        assert changed[0][one : one + every].any(1).sum() > 1
    assert [row.all() for row in changed[1]] == [False, False, True] * 2


def test_matrices_of_one_leaf_and_tall_ones_are_as_leaves_of_their_own():
    g = jnp.asarray(RNG.normal(size=(5, 2, 4, 3)), jnp.float32)
    at = jnp.ones((2, 4, 3))
    stacked = steps(jopt.soap(0.1, axes={"w": "layer ..."}, update_every=2), {"w": at}, {"w": g})[0]
    apart = {"a": at[0], "b": at[1].T}
    alone = steps(jopt.soap(0.1, update_every=2), apart, {"a": g[:, 0], "b": g[:, 1].mT})[0]
    np.testing.assert_allclose(stacked["w"][:, 0], alone["a"], rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(stacked["w"][:, 1], alone["b"].mT, rtol=2e-4, atol=1e-5)


def test_a_leaf_of_more_axes_wants_to_be_told():
    with pytest.raises(jopt.TreeError, match=r"0 or 1 or 2 axes only\n  at:       w"):
        jopt.soap().init({"w": jnp.zeros((2, 3, 4))})
