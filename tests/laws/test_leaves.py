"""Unusual leaves: none at all, empty containers, scalars, zero sizes, missing gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jopt
from jopt.testing import leaves
from tests.laws.harness import (
    assert_same_bits,
    each,
    extras,
    given,
    grads_like,
    params_of,
    run,
    subject,
)


@each
def test_no_leaves_at_all(entry):
    leaves.empty(subject(entry))


@each
def test_none_and_empty_containers_among_leaves_change_nothing(entry):
    leaves.containers(subject(entry, entry.make(**entry.quiet)))


@each
def test_zero_size_leaves(entry):
    leaves.hollow(subject(entry))


@each
def test_a_bare_array_is_a_tree(entry):
    leaves.bare(subject(entry, entry.make(**entry.quiet)))


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
