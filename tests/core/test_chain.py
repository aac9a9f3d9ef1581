"""Chains: labels, order, nesting, foreign transforms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from tests.core.helpers import error, params, same, train


def test_labels_are_names_and_repeats_are_numbered():
    tx = jopt.chain(
        jopt.clip_by_value(1.0), jopt.clip_by_value(2.0), jopt.sgd(0.1), jopt.clip_by_value(3.0)
    )
    assert list(tx.init(params())) == [
        "clip_by_value",
        "clip_by_value_2",
        "sgd",
        "clip_by_value_3",
    ]


def test_chains_dissolve_and_keep_their_order():
    a, b, c = jopt.clip_by_value(1.0), jopt.sgd(0.1), jopt.sgd(0.5)
    nested = jopt.chain(jopt.chain(a, jopt.chain(b)), c)
    flat = jopt.chain(a, b, c)
    assert list(nested.init(params())) == list(flat.init(params()))
    same(
        train(nested, params(), nested.init(params()), [0, 1]),
        train(flat, params(), flat.init(params()), [0, 1]),
    )


def test_names_of_ones_own():
    tx = jopt.chain(jopt.clip_by_value(1.0), fast=jopt.sgd(0.5), slow=jopt.sgd(0.25))
    assert list(tx.init(params())) == ["clip_by_value", "fast", "slow"]
    both = jopt.chain(inner=jopt.chain(jopt.clip_by_value(1.0), jopt.sgd(0.1)))
    assert list(both.init(params())) == ["inner_clip_by_value", "inner_sgd"]


def test_a_name_taken_twice():
    with error(jopt.ConfigError, "chain: two transforms are called 'sgd'"):
        jopt.chain(jopt.sgd(0.1), sgd=jopt.sgd(0.2))


def test_order_matters_and_is_left_to_right():
    one = {"w": jnp.zeros(())}
    g = {"w": jnp.float32(10.0)}
    for tx, want in (
        (jopt.chain(jopt.clip_by_value(1.0), jopt.sgd(0.5)), -0.5),
        (jopt.chain(jopt.sgd(0.5), jopt.clip_by_value(1.0)), -1.0),
    ):
        assert float(tx.update(g, tx.init(one), one)[0]["w"]) == want


def test_an_empty_chain_is_the_identity():
    tx = jopt.chain()
    assert tx.init(params()) == {}
    updates, state = tx.update(params(), {}, params())
    same(updates, params())
    assert state == {}


def test_gradient_transforms_need_no_parameters_and_keep_the_dtype():
    tx = jopt.chain(jopt.clip_by_value(1.0), jopt.clip_by_global_norm(1.0))
    grads = {"w": jnp.ones(3, jnp.bfloat16)}
    updates, _ = tx.update(grads, tx.init(grads))
    assert updates["w"].dtype == jnp.bfloat16


def test_foreign_transforms_run_and_their_state_is_named():
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), optax.trace(0.9), jopt.sgd(0.5))
    plain = optax.chain(optax.trace(0.9), optax.scale(-0.5))
    one = params()
    state, other = tx.init(one), plain.init(one)
    assert list(state) == ["clip_by_global_norm", "foreign", "sgd"]
    same(state["foreign"], {"trace": jax.tree.map(jnp.zeros_like, one)})
    small = jax.tree.map(lambda p: p * 1e-3, one)
    for _ in range(3):
        got, state = jax.jit(tx.update)(small, state, one)
        want, other = plain.update(small, other, one)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_foreign_optimizers_with_their_own_structure_survive_a_scan():
    tx = jopt.chain(optax.adam(1e-2))
    plain = optax.adam(1e-2)
    one = params()

    def body(carry, _):
        p, s, q, r = carry
        u, s = tx.update(p, s, p)
        v, r = plain.update(q, r, q)
        return (jopt.apply_updates(p, u), s, optax.apply_updates(q, v), r), None

    start = (one, tx.init(one), one, plain.init(one))
    with jax.numpy_dtype_promotion("standard"):  # optax itself promotes
        (p, _, q, _), _ = jax.lax.scan(body, start, length=5)
    for x, y in zip(jax.tree.leaves(p), jax.tree.leaves(q), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_foreign_steps_pass_through_later_transforms_as_steps():
    tx = jopt.chain(optax.scale(-0.5), jopt.clip_by_value(0.1))
    one = {"w": jnp.float32(4.0)}
    assert float(tx.update(one, tx.init(one), one)[0]["w"]) == pytest.approx(-0.1)


def test_inside_an_optax_chain():
    tx = optax.chain(optax.clip_by_global_norm(1e9), jopt.adamw(1e-2))
    one = params()
    got, _ = tx.update(one, tx.init(one), one)
    want, _ = jopt.adamw(1e-2).update(one, jopt.adamw(1e-2).init(one), one)
    same(got, want)


def test_unpacks_as_optax_pairs_do():
    init, update = jopt.sgd(0.5)
    one = params()
    same(update(one, init(one), one)[0], jax.tree.map(lambda p: -0.5 * p, one))


def test_something_that_is_no_transform():
    with pytest.raises(jopt.ConfigError, match="chain: this is no transform") as caught:
        jopt.chain(jopt.sgd)
    assert "Call the factory: jopt.adamw(1e-3), not jopt.adamw." in str(caught.value)
    with error(
        jopt.ConfigError,
        """
        chain: this is no transform
          expected: something with init(params) and update(updates, state, params)
          found:    0.1
        """,
    ):
        jopt.chain(0.1)


def test_the_state_of_another_foreign_transform():
    one = {"w": jnp.ones(2)}
    tx = jopt.chain(optax.trace(0.9))
    other = jopt.chain(optax.adam(0.1)).init(one)
    with pytest.raises(jopt.TreeError, match="foreign: this state belongs to another foreign"):
        tx.update(one, other, one)


def test_a_foreign_state_is_not_extended():
    tx = jopt.chain(optax.trace(0.9))
    one = {"w": jnp.ones(2)}
    with error(
        jopt.TreeError,
        """
        foreign: the state of a foreign transform cannot be extended
          Start it anew with tx.init, or use jopt's own transform in its place.
        """,
    ):
        jopt.extend(tx, tx.init(one), one)
