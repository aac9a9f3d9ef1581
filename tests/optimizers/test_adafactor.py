"""Adafactor: what each leaf keeps, and its own epsilon."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt

PARAMS = {
    "scale": jnp.ones(()),
    "bias": jnp.ones(5),
    "kernel": jnp.ones((4, 3)),
    "conv": jnp.ones((2, 4, 3)),
}


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def test_matrices_keep_a_row_and_a_column_and_the_others_all():
    state = jopt.adafactor().init(PARAMS)["adafactor"]
    assert shapes(state["nu_row"]) == {"kernel": (4, 1), "conv": (2, 4, 1)}
    assert shapes(state["nu_column"]) == {"kernel": (1, 3), "conv": (2, 1, 3)}
    assert shapes(state["nu"]) == {"scale": (), "bias": (5,)}


def test_extending_gives_each_new_leaf_the_slots_it_holds():
    tx = jopt.adafactor(0.1)
    old = {k: PARAMS[k] for k in ("bias", "kernel")}
    _, state = tx.update(old, tx.init(old), old)
    grown = jopt.extend(tx, state, PARAMS)["adafactor"]
    fresh, before = tx.init(PARAMS)["adafactor"], state["adafactor"]
    for slot in ("nu_row", "nu_column", "nu"):
        assert shapes(grown[slot]) == shapes(fresh[slot])
        for name, x in grown[slot].items():
            want = before[slot].get(name, fresh[slot][name])
            assert np.array_equal(x, want)
    assert grown["leaf_count"] == {"conv": 0, "scale": 0}
    updates, _ = tx.update(PARAMS, {"adafactor": grown}, PARAMS)
    assert all(np.isfinite(u).all() for u in jax.tree.leaves(updates))


def test_a_state_without_a_slot_that_a_leaf_should_hold_is_refused():
    tx = jopt.adafactor(0.1)
    state = tx.init({"kernel": jnp.ones(3)})
    with pytest.raises(jopt.StateError, match=r"no 'nu_row' for a parameter\n  at:       kernel"):
        tx.update({"kernel": jnp.ones((3, 3))}, state, {"kernel": jnp.ones((3, 3))})


def torch_step(params, grads, **kwargs):
    leaves = [torch.tensor(np.asarray(p, np.float32), dtype=d) for p, d in params]
    for p, g in zip(leaves, grads, strict=True):
        p.grad = torch.tensor(np.asarray(g, np.float32), dtype=p.dtype)
    torch.optim.Adafactor(leaves, **kwargs).step()
    return [p.float().numpy() for p in leaves]


@pytest.mark.parametrize("order", ["float32 first", "bfloat16 first"])
def test_epsilon_is_that_of_each_leafs_own_dtype(order):
    # Torch gets it right for the first leaf of a group; a leaf alone is always the first.
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 0.5, 2.0], size=(4, 4))
    g = rng.choice([-1.0, 1.0], size=(4, 4)) * 2.0**-10  # below bfloat16's epsilon, 2⁻⁷
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    names = ["float32", "bfloat16"] if order == "float32 first" else ["bfloat16", "float32"]
    alone = {n: torch_step([(x, dtypes[n])], [g], lr=0.1)[0] for n in names}
    together = torch_step([(x, dtypes[n]) for n in names], [g, g], lr=0.1)
    params = [jnp.asarray(x, n) for n in names]
    tx = jopt.adafactor(0.1)
    updates, _ = tx.update([jnp.asarray(g, n) for n in names], tx.init(params), params)
    after = jopt.apply_updates(params, updates)
    for n, p in zip(names, after, strict=True):
        rtol = {"float32": 2e-7, "bfloat16": 2.0**-8}[n]
        np.testing.assert_allclose(np.asarray(p, np.float32), alone[n], rtol=rtol)
    moved = [np.abs(p - x).max() for p in together]
    assert max(moved) <= 1.2 * min(moved)  # torch: both leaves took the first one's epsilon
    ours = [np.abs(np.asarray(p, np.float32) - x).max() for p in after]
    assert max(ours) >= 5 * min(ours)


def test_with_float32s_epsilon_a_bfloat16_parameter_steps_as_a_float32_one():
    rng = np.random.default_rng(0)
    p = {"w": jnp.asarray(rng.normal(size=(4, 6)), "bfloat16"), "b": jnp.ones(6, "bfloat16")}
    wide = jax.tree.map(lambda x: x.astype("float32"), p)
    tx = jopt.adafactor(0.1, eps1=2.0**-23)
    state, of_wide = tx.init(p), tx.init(wide)
    for _ in range(3):
        g = jax.tree.map(lambda x: jnp.asarray(1e-4 * rng.normal(size=x.shape), "float32"), p)
        updates, state = tx.update(g, state, p)
        want, of_wide = tx.update(g, of_wide, wide)
        assert jax.tree.all(jax.tree.map(np.array_equal, updates, want))
    # The default divides by 2⁻⁷ at least, which is far above these gradients.
    late = jopt.adafactor(0.1)
    held_back, _ = late.update(g, late.init(p), p)
    assert np.abs(held_back["w"]).max() < np.abs(want["w"]).max() / 10


def test_the_papers_tiny_epsilon_makes_no_nan_of_a_zero_gradient():
    p, g = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    theirs = torch_step([(p, torch.float32)], [g], eps=(1e-30, 1e-3))[0]
    assert np.isnan(theirs).all()
    tx = jopt.adafactor(eps1=1e-30)
    updates, _ = tx.update(jnp.asarray(g), tx.init(jnp.asarray(p)), jnp.asarray(p))
    assert np.array_equal(updates, np.zeros((2, 2)))
