"""Predicates of the path alone, and trees of bools, wherever leaves are selected."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt

P = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "scale": [jnp.ones(2)]}
G = jax.tree.map(jnp.ones_like, P)
MASK = {"dense": {"kernel": True, "bias": False}, "scale": [False]}


def decayed(match):
    return jopt.adamw(0.1, weight_decay=0.0, groups={"on": jopt.group(match, weight_decay=0.5)})


def moved(tx):
    return tx.update(G, tx.init(P), P)[0]


@pytest.mark.parametrize(
    "match",
    [
        MASK,
        jax.tree.map(np.bool_, MASK),
        {"dense": {"kernel": True, "bias": False}, "scale": False},
        lambda path: path.endswith("kernel"),
        lambda path, leaf: leaf.ndim == 2,
        lambda path, leaf=None: leaf is not None and leaf.ndim == 2,
    ],
    ids=["mask", "numpy", "prefix", "path", "pair", "default"],
)
def test_the_same_leaves_by_any_of_them(match):
    theirs = optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(0.5, MASK), optax.scale(-0.1)
    )
    with jax.numpy_dtype_promotion("standard"):
        expected, _ = theirs.update(G, theirs.init(P), P)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), moved(decayed(match)), expected
    )


def test_a_mask_is_part_of_the_call():
    tx = decayed(MASK)
    other = decayed({"dense": {"kernel": True, "bias": True}, "scale": [False]})
    assert tx == decayed(dict(MASK)) == pickle.loads(pickle.dumps(tx))
    assert hash(tx) == hash(decayed(dict(MASK)))
    assert tx != other
    assert "'kernel': True" in repr(tx)
    mine = dict(MASK)
    tx = decayed(mine)
    mine["dense"] = False
    assert tx == decayed(MASK)


def test_masks_choose_routes_frozen_leaves_and_leaves_that_may_skip():
    routed = jopt.route(decayed("kernel"), flat=({"dense": False, "scale": True}, jopt.sgd(0.1)))
    assert jopt.routing(routed, P) == {
        "dense/bias": "rest",
        "dense/kernel": "rest",
        "scale/0": "flat",
    }
    inside = jopt.route(decayed(MASK), flat=("scale", jopt.sgd(0.1)))
    jax.tree.map(
        np.testing.assert_array_equal, moved(inside)["dense"], moved(decayed(MASK))["dense"]
    )
    frozen = jopt.adam(0.1, groups={"still": jopt.group(MASK, freeze=True)})
    assert not moved(frozen)["dense"]["kernel"].any()
    assert moved(frozen)["dense"]["bias"].all()
    for skips in (MASK, lambda path: "kernel" in path):
        counts = jopt.adam(0.1, skips=skips).init(P)["adam"]["leaf_count"]
        assert [*counts["dense"]] == ["kernel"]
    recipe = jopt.recipes.muon_adamw(also_adamw=lambda path: "kernel" in path)
    assert set(jopt.routing(recipe, {**P, "other": jnp.ones((2, 2))}).values()) == {
        "rest",
        "matrices",
    }
    assert hash(jopt.recipes.muon_adamw(also_adamw=MASK)) == hash(
        jopt.recipes.muon_adamw(also_adamw=MASK)
    )


@pytest.mark.parametrize(
    ("match", "text"),
    [
        ({"dense": {"kernel": "decay", "bias": "none"}}, r"jax\.tree\.map\(lambda x: x == 'name'"),
        (lambda a, b, c: True, r"a predicate of \(path, leaf\) or path"),
        (lambda: True, r"a predicate of \(path, leaf\) or path"),
        ({"w": 1.0}, "a tree of bools"),
        (True, "a tree of bools"),
        ({}, "a tree of bools"),
        (None, "a tree of bools"),
        (3, "a tree of bools"),
    ],
)
def test_what_selects_nothing_is_refused(match, text):
    with pytest.raises(jopt.ConfigError, match=text):
        jopt.group(match)
    if not isinstance(match, bool | None):
        with pytest.raises(jopt.ConfigError, match=text):
            jopt.adam(0.1, skips=match)


def test_a_mask_of_another_tree_is_told():
    with pytest.raises(jopt.GroupError, match="the mask says nothing about a leaf") as e:
        decayed({"dense": {"kernel": True}, "scale": False}).init(P)
    assert e.value.path == "dense/bias"
