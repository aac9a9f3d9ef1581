"""Unusual leaves: none at all, empty containers, scalars, zero sizes, missing gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.laws.harness import (
    assert_same_bits,
    each,
    extras,
    given,
    grads_like,
    params_of,
    run,
    step,
)


@each
@pytest.mark.parametrize("empty", [{}, [], (), {"a": {}, "b": []}, {"a": None}])
def test_no_leaves_at_all(entry, empty):
    tx = entry.make()
    state = tx.init(empty)
    updates, new = tx.update(empty, state, empty, **extras(tx, empty, empty))
    assert jax.tree.structure(updates) == jax.tree.structure(empty)
    assert jax.tree.structure(new) == jax.tree.structure(state)


@each
def test_none_and_empty_containers_among_leaves_change_nothing(entry):
    tx, params = entry.make(**entry.quiet), params_of(entry)
    around = {"params": params, "nothing": None, "empty": {}, "list": []}
    grads = grads_like(entry, params, 0)
    got, _ = step(entry, tx, around, tx.init(around), {**around, "params": grads})
    want, _ = step(entry, tx, params, tx.init(params), grads)
    assert got["nothing"] is None
    assert got["empty"] == {}
    assert got["list"] == []
    assert_same_bits(got["params"], want)


@each
def test_zero_size_leaves(entry):
    tx, params = entry.make(), params_of(entry)
    shapes = {"none": (0, 4), "flat": (0,), "deep": (2, 0, 3)}
    hollow = {k: jnp.zeros(s) for k, s in shapes.items() if len(s) in entry.ndims}
    for tree in (hollow, {**params, **hollow}):
        state = tx.init(tree)
        after, new = step(entry, tx, tree, state, jax.tree.map(jnp.ones_like, tree))
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, tree)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((after, new)))


@each
def test_a_bare_array_is_a_tree(entry):
    tx, params = entry.make(**entry.quiet), params_of(entry)
    leaf = jax.tree.leaves(params)[-1]
    g = jax.tree.leaves(grads_like(entry, params, 0))[-1]
    got, _ = step(entry, tx, leaf, tx.init(leaf), g)
    want, _ = step(entry, tx, {"w": leaf}, tx.init({"w": leaf}), {"w": g})
    assert_same_bits(got, want["w"])


@each
def test_a_missing_gradient_leaves_parameter_slots_and_age(entry):
    # As if the leaf had lived in an optimizer of its own that was not called.
    tx, params = entry.skipping("^b$"), params_of(entry)
    leaf = jax.tree.leaves(params)[-1]
    pair = {"a": leaf, "b": leaf}
    state, alone = tx.init(pair), tx.init({"b": leaf})
    b = leaf
    for seed in range(4):
        g = jax.tree.leaves(grads_like(entry, params, seed))[-1]
        missing = seed in (1, 2)
        grads = {"a": g, "b": None if missing else g}
        fed = {"a": given(entry, g), "b": None if missing else given(entry, g)}
        updates, state = tx.update(fed, state, pair, **extras(tx, pair, grads_filled(grads)))
        pair = jopt.apply_updates(pair, updates)
        if not missing and entry.separable:
            single = {"b": b}
            updates, alone = tx.update(
                {"b": given(entry, g)}, alone, single, **extras(tx, single, {"b": g})
            )
            b = jopt.apply_updates(single, updates)["b"]
    if entry.separable:
        assert_same_bits(pair["b"], b)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(pair))


def grads_filled(grads):
    """Zero where there is none, for the objective."""
    return {k: jnp.zeros_like(grads["a"]) if g is None else g for k, g in grads.items()}


@each
def test_no_gradients_at_all_move_nothing(entry):
    tx, params = entry.skipping(True), params_of(entry)
    params, state = run(entry, tx, params, tx.init(params), range(2))
    nothing = jax.tree.map(lambda _: None, params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, new = tx.update(nothing, state, params, **extras(tx, params, zeros))
    assert_same_bits(jopt.apply_updates(params, updates), params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(new))
