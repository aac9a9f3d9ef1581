"""Rules that say they treat every entry alone do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jopt.core.spec import REGISTRY
from tests.catalog import BY_NAME, CATALOG
from tests.laws.harness import assert_same_bits, extras

SHAPE = (32, 32)
ORDER = np.random.default_rng(0).permutation(SHAPE[0] * SHAPE[1])


def moved(entry, x):
    """The same entries elsewhere, in a leaf of the same shape; numbers of the leaf as they are."""
    return jax.tree.map(lambda y: y.reshape(-1)[ORDER].reshape(SHAPE) if y.shape else y, x)


def leaf(seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=SHAPE), jnp.float32)


def run(entry, at=lambda entry, x: x):
    """The parameter after three steps, and the slots."""
    tx = entry.make()
    params = {"w": at(entry, leaf(0))}
    state = tx.init(params)
    update = jax.jit(lambda g, state, p: tx.update(g, state, p, **extras(tx, p, g)))
    for seed in (1, 2, 3):
        updates, state = update({"w": at(entry, leaf(seed))}, state, params)
        params = {"w": params["w"] + updates["w"]}
    node, names = state[entry.name], [s.name for s in REGISTRY[entry.name].slots]
    return params["w"], {k: node[k]["w"] for k in names if "w" in node.get(k, {})}


@pytest.mark.parametrize("name", [e.name for e in CATALOG if REGISTRY[e.name].elementwise])
def test_entries_that_change_places_take_their_results_along(name):
    assert_same_bits(run(BY_NAME[name], moved), moved(BY_NAME[name], run(BY_NAME[name])))


def test_a_rule_that_looks_around_would_be_found():
    entry = BY_NAME["adafactor"]
    assert not REGISTRY[entry.name].elementwise
    assert (run(entry, moved)[0] != moved(entry, run(entry)[0])).any()
