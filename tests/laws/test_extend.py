"""Leaves that join a restored state begin as alone, and those that were there go on as alone."""

import jax
import jax.numpy as jnp
import pytest

import jopt
from jopt.testing import compare
from jopt.testing.subject import Subject, drawn, in_rows
from tests.catalog import CATALOG
from tests.laws.harness import is_sparse, shapes_of

BEFORE, AFTER = 5, 6
ENTRIES = {e.name: e for e in CATALOG if e.separable}
SHAPES = {"bias": (3,), "kernel": (3, 4), "wide": (2, 6)}
COMPOSED = {
    "galore": lambda: jopt.galore(jopt.adamw(0.01), rank=2, update_proj_gap=2),
    "mars": lambda: jopt.mars(jopt.adamw(0.01)),
    "mars shampoo": lambda: jopt.mars(jopt.shampoo(0.01, update_every=2, ridge=1e-2)),
    "grokfast": lambda: jopt.chain(jopt.grokfast(), jopt.adamw(0.01)),
    "grokfast_ma": lambda: jopt.chain(jopt.grokfast_ma(window_size=2), jopt.lion(0.01)),
    "stable_adamw": lambda: jopt.recipes.stable_adamw(0.01),
    "ranger": lambda: jopt.recipes.ranger(0.01, sync_period=2),
    "schedule_free_radam": lambda: jopt.recipes.schedule_free_radam(0.01),
    "muon+adamw": lambda: jopt.route(
        jopt.adamw(0.01), m=("kernel$", jopt.muon(0.01, ns_dtype="float64"))
    ),
    "soap, spread": lambda: jopt.soap(0.01, update_every=2, spread=True),
    "shampoo, spread": lambda: jopt.shampoo(0.01, update_every=2, ridge=1e-2, spread=True),
    "kron, spread": lambda: jopt.kron(
        0.01, update_every=2, update_probability=0.7, max_size=8, spread=True
    ),
    "newton": lambda: jopt.shampoo(0.01, method="newton", update_every=2, ridge=1e-2),
}
ONE_AGE = ("adahessian", "schedule_free_radam", "sophia")
"""One sum of weights, or one turn to look at curvature, for all: what joins counts as old."""


def joins(tx, shapes, sparse=False):
    """Two trees of the same shapes, of which one joins the other after some steps."""
    old, new = ({k: drawn(shapes, "float64", seed, 1.0)} for k, seed in (("old", 1), ("new", 2)))
    asked = Subject(tx, None)

    def grads_of(params, t):
        g = jax.tree.map(lambda p: jnp.sin(3 * p + t) + p / 2, params)
        return in_rows(g) if sparse else g

    def run(params, state, first, steps):
        def one(carry, t):
            p, state = carry
            g = grads_of(p, t)
            updates, state = tx.update(g, state, p, **asked.extras(p, g))
            return (jopt.apply_updates(p, updates), state), None

        turns = jnp.arange(first, first + steps, dtype=jnp.float64)
        return jax.lax.scan(one, (params, state), turns)[0]

    begun, state = jax.jit(lambda p: run(p, tx.init(p), 0, BEFORE))(old)
    restored = jopt.from_bytes(tx.init(old), jopt.to_bytes(state, tx=tx), tx=tx)
    grown = jopt.extend(tx, restored, begun | new)

    @jax.jit
    def three(begun, state, grown, new):
        both = run(begun | new, grown, BEFORE, AFTER)[0]
        on = run(begun, state, BEFORE, AFTER)[0]
        return both, on | run(new, tx.init(new), BEFORE, AFTER)[0]

    return three(begun, state, grown, new)


def assert_as_alone(name, both, alone):
    for key in ("old",) if name in ONE_AGE else ("old", "new"):
        compare.close(key, both[key], alone[key], 1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ENTRIES)
def test_what_joins_a_restored_state_begins_as_alone_and_the_rest_goes_on(name):
    entry = ENTRIES[name]
    assert_as_alone(name, *joins(entry.make(), shapes_of(entry), is_sparse(entry)))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", COMPOSED)
def test_so_it_does_in_compositions(name):
    assert_as_alone(name, *joins(COMPOSED[name](), SHAPES))
