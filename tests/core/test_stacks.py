"""Leaves that hold many tensors train as leaves that hold one each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.checkpoint.config import configuration

LAYERS = 3
AXES = {"^scanned/": "layer ...", "^query$": "d (heads k)"}


def tree(seed):
    """Layers in one leaf, and a matrix whose columns are two axes."""
    rng = np.random.default_rng(seed)
    scanned = {"kernel": rng.normal(size=(LAYERS, 4, 6)), "bias": rng.normal(size=(LAYERS, 5))}
    return {"scanned": scanned, "query": rng.normal(size=(4, 2, 3))}


def apart(tree):
    """The same, one tensor a leaf."""
    layers = [{k: v[i] for k, v in tree["scanned"].items()} for i in range(LAYERS)]
    return {"scanned": layers, "query": tree["query"].reshape(4, 6)}


CASES = {
    "adafactor": lambda **k: jopt.adafactor(0.1, **k),
    "novograd": lambda **k: jopt.novograd(0.1, **k),
    "lars": lambda **k: jopt.lars(0.1, weight_decay=0.1, **k),
    "lamb": lambda **k: jopt.chain(jopt.clip_by_norm(1.0, **k), jopt.lamb(0.1, **k)),
    "trust_ratio": lambda **k: jopt.trust_ratio(jopt.sgd(0.1, **k), form="lars"),
    "stages": lambda **k: jopt.hyperball(jopt.cautious(jopt.stable(jopt.adam(0.1, **k)))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stack_trains_as_its_tensors(x64, name):
    stacked, single = CASES[name](axes=AXES), CASES[name]()
    p, q = tree(0), apart(tree(0))
    state, other = stacked.init(p), single.init(q)
    for seed in (1, 2):
        u, state = stacked.update(tree(seed), state, p)
        v, other = single.update(apart(tree(seed)), other, q)
        p, q = jopt.apply_updates(p, u), jopt.apply_updates(q, v)
    for a, b in zip(jax.tree.leaves(apart(p)), jax.tree.leaves(q), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_slots_lie_along_the_axes_of_the_leaf():
    node = jopt.adafactor(axes=AXES).init(tree(0))["adafactor"]
    shapes = {k: jax.tree.map(jnp.shape, node[k]) for k in ("nu", "nu_row", "nu_column")}
    assert shapes == {
        "nu": {"scanned": {"bias": (LAYERS, 5)}},
        "nu_row": {"query": (4, 1, 1), "scanned": {"kernel": (LAYERS, 4, 1)}},
        "nu_column": {"query": (1, 2, 3), "scanned": {"kernel": (LAYERS, 1, 6)}},
    }


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("i layer o -> layer i o", lambda x: np.moveaxis(x, 1, 0)),
        ("i (6 o) -> 6 i o", lambda x: np.stack(np.split(x, 6, axis=1))),
    ],
)
def test_axes_in_another_order_and_axes_that_are_split(text, moved):
    g = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    g = g if text.startswith("i layer") else g.reshape(4, 30)
    tx = jopt.clip_by_norm(1.0, axes={"": text})
    clipped = tx.update({"w": g}, tx.init({"w": g}))[0]["w"]
    for mine, one in zip(moved(np.asarray(clipped)), moved(g), strict=True):
        np.testing.assert_allclose(mine, one / (np.linalg.norm(one) + 1e-6), rtol=1e-5)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"nowhere": "layer ..."}, "nowhere"),
        ({"query": "d k"}, "query"),
        ({"query": "d h (5 k) -> 5 d (h k)"}, "does not divide"),
        ({"query": "d (h k"}, "names no axes"),
        ({"query": "d h h"}, "twice"),
        ({"query": "a b c", "qu": "a (b c)"}, "two things"),
        ({"query": 3}, "3"),
        ("layer ...", "takes a dict"),
    ],
)
def test_axes_that_do_not_fit_are_an_error(axes, said):
    with pytest.raises(jopt.JoptError, match=said.replace(".", r"\.")):
        jopt.lamb(axes=axes).init(tree(0))


def test_what_treats_entries_alone_does_not_change_with_axes():
    p = tree(0)
    plain, told = jopt.nadam().init(p), jopt.nadam(axes=AXES).init(p)
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, told)
    assert configuration(jopt.nadam()) == configuration(jopt.nadam(axes=AXES))
    assert configuration(jopt.lamb()) != configuration(jopt.lamb(axes=AXES))


def test_muon_moves_each_matrix_of_a_stack():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(2, 4, 6)).astype(np.float32)
    tx, one = jopt.muon(0.1, axes={"": "layer i o"}), jopt.muon(0.1)
    apart = {"a": p[0], "b": p[1]}
    moved = tx.update({"w": p}, tx.init({"w": p}), {"w": p})[0]["w"]
    single = one.update(apart, one.init(apart), apart)[0]
    np.testing.assert_array_equal(moved, np.stack([single["a"], single["b"]]))
