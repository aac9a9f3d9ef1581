"""Gradients with little in them, far too much or next to nothing, of every optimizer; and work in
shares, cut off between two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from tests.catalog import CATALOG
from tests.laws.harness import extras, is_sparse

RNG = np.random.default_rng(0)
ODD = {
    "zero": np.zeros((4, 3)),
    "rank one": np.outer(RNG.normal(size=4), RNG.normal(size=3)),
    "tiny": 1e-30 * RNG.normal(size=(4, 3)),
    "huge": 1e18 * RNG.normal(size=(4, 3)),
    "repeated": np.eye(4, 3),
    "row": np.ones((4, 3)) * (np.arange(4) == 1)[:, None],
    "square": np.eye(4),
}
# Any of these from the first step on, and after some that are nothing out of the way.
NORMAL = {k: RNG.normal(size=g.shape) for k, g in ODD.items()}
LATER = {f"{k}, later": [NORMAL[k]] * 2 + [g] * 4 for k, g in ODD.items()}
FIRST = {k: [g] * 5 + [NORMAL[k]] for k, g in ODD.items()}
GRADS = {k: jnp.asarray(np.stack(g), jnp.float32) for k, g in (FIRST | LATER).items()}
SEEING_MATRICES = [e for e in CATALOG if 2 in e.ndims and e.reverse_mode and not is_sparse(e)]
COMPOSED = {
    "galore": jopt.galore(jopt.adamw(0.01), rank=2, update_proj_gap=2),
    "mars": jopt.mars(jopt.adamw(0.01)),
    "mars lion": jopt.mars(jopt.lion(0.01, 0.95, 0.95)),
    "mars shampoo": jopt.mars(jopt.shampoo(0.01, update_every=2)),
    "mars muon": jopt.mars(jopt.muon(0.01, momentum=0.95, nesterov=False)),
    "mars, no norm": jopt.mars(jopt.shampoo(0.01, update_every=2), max_norm=None),
    "newton": jopt.shampoo(0.01, method="newton", update_every=2),
    "newton, grafted": jopt.shampoo(
        0.01, method="newton", update_every=1, graft=jopt.rmsprop(decay=0.99)
    ),
    "newton, sgd": jopt.shampoo(0.01, method="newton", graft="sgd", b1=0.0, b2=1.0, update_every=1),
    "newton, no graft": jopt.shampoo(
        0.01, method="newton", graft=None, update_every=1, vectors=True
    ),
    "eigh, no graft": jopt.shampoo(0.01, graft=None, update_every=1, vectors=True),
    "soap, spread": jopt.soap(0.01, update_every=2, spread=True),
    "kl_shampoo, spread": jopt.kl_shampoo(0.01, update_every=2, spread=True),
    "shampoo, spread": jopt.shampoo(0.01, update_every=2, spread=True),
    "kron, spread": jopt.kron(0.01, update_every=2, spread=True),
    "grokfast": jopt.chain(jopt.grokfast(), jopt.adamw(0.01)),
    "grokfast_ma": jopt.chain(jopt.grokfast_ma(window_size=2), jopt.adamw(0.01)),
    "grokfast soap": jopt.chain(jopt.grokfast(), jopt.soap(0.01, update_every=2)),
    "grokfast kron": jopt.chain(jopt.grokfast(), jopt.kron(0.01)),
    "grokfast twice": jopt.chain(jopt.grokfast(), jopt.grokfast(), jopt.adamw(0.01)),
    "grokfast_ma twice": jopt.chain(
        jopt.grokfast_ma(window_size=2), jopt.grokfast_ma(window_size=2), jopt.adamw(0.01)
    ),
    "stable_adamw": jopt.recipes.stable_adamw(0.01),
    "ranger": jopt.recipes.ranger(0.01, sync_period=2),
    "schedule_free_radam": jopt.recipes.schedule_free_radam(0.01),
    "polar express": jopt.muon(0.01, ns_coefficients="polar_express"),
}
BEYOND = ("grokfast_ma twice",)
"""What makes of 10¹⁸ more than has a square in float32: steps are finite, `nu` is not."""


def assert_finite(tx, state=True):
    params = {k: jnp.ones(g.shape[1:]) for k, g in GRADS.items()}

    def one(carry, g):
        p, state = carry
        updates, state = tx.update(g, state, p, **extras(tx, p, g))
        p = jopt.apply_updates(p, updates)
        return (p, state), (p, updates, state)

    run = jax.jit(lambda p, g: jax.lax.scan(one, (p, tx.init(p)), g)[1])
    found = run(params, GRADS)[: 3 if state else 2]
    bad = [
        jax.tree_util.keystr(path)
        for path, x in jax.tree_util.tree_leaves_with_path(found)
        if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(x).all()
    ]
    assert bad == []


@pytest.mark.parametrize("entry", SEEING_MATRICES, ids=lambda e: e.name)
def test_gradients_with_little_in_them_give_finite_steps(entry):
    assert_finite(entry.make())


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSED)
def test_so_they_do_in_compositions(name):
    assert_finite(COMPOSED[name], state=name not in BEYOND)


SPREAD = [e for e in CATALOG if "spread" in next(iter(e.make().parts.values())).spec.options]


@pytest.mark.slow
@pytest.mark.parametrize("entry", SPREAD, ids=lambda e: e.name)
def test_a_run_cut_off_between_two_shares_goes_on_to_the_bit(entry):
    tx = entry.make(update_every=3, spread=True)
    params = {str(i): jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32) for i in range(5)}
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    grads = [jax.tree.map(lambda p: jnp.sin(3 * p + i), params) for i in range(8)]  # noqa: B023
    p, state = params, tx.init(params)
    for i, g in enumerate(grads):
        if i == 5:  # after shares 2 and 0
            q, kept = p, jopt.from_bytes(tx.init(params), jopt.to_bytes(state, tx=tx), tx=tx)
        if i >= 5:
            q, kept = step(g, kept, q)
        p, state = step(g, state, p)
    for a, b in zip(jax.tree.leaves((p, state)), jax.tree.leaves((q, kept)), strict=True):
        np.testing.assert_array_equal(a, b)
