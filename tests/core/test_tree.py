"""Paths: any container becomes a nested dict of strings, and none are confused."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze
from hypothesis import given
from hypothesis import strategies as st

import jopt
from jopt.core.nested import flatten_dict, has, lookup, nest
from jopt.core.paths import from_pointer
from jopt.core.tree import layout_of
from tests.core.helpers import error, same


@jax.tree_util.register_dataclass
@dataclass
class Layer:
    kernel: jax.Array
    bias: jax.Array


class Linear(eqx.Module):
    weight: jax.Array
    bias: jax.Array
    name: str = eqx.field(static=True)


class Model(nnx.Module):
    def __init__(self) -> None:
        self.first = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        self.rest = nnx.List([nnx.Linear(3, 3, rngs=nnx.Rngs(1))])


@jax.tree_util.register_pytree_node_class
class Keyless:
    """A container without names for its children."""

    def __init__(self, *children):
        self.children = children

    def tree_flatten(self):
        return self.children, None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


a, b = jnp.ones((2, 3)), jnp.full(3, 2.0)
TREES = {
    "dict": ({"a": a, "b": {"c": b}}, {"a", "b/c"}),
    "list": ([a, [b, b]], {"0", "1/0", "1/1"}),
    "tuple": ((a, {"x": (b,)}), {"0", "1/x/0"}),
    "ints": ({0: a, 10: {2: b}}, {"0", "10/2"}),
    "dataclass": ({"l": Layer(a, b)}, {"l/kernel", "l/bias"}),
    "equinox": (Linear(a, b, "out"), {"weight", "bias"}),
    "frozen": (freeze({"a": {"b": b}}), {"a/b"}),
    "keyless": (Keyless(a, b), {"0", "1"}),
    "slash": ({"a/b": a, "a": {"b": b, "~1": b}}, {"a~1b", "a/b", "a/~01"}),
    "bare": (a, {""}),
    "none": ({"a": None, "b": b}, {"b"}),
}


@pytest.mark.parametrize(("tree", "names"), TREES.values(), ids=TREES)
def test_every_container_is_optimized_and_comes_back(tree, names):
    assert set(layout_of("t", tree).names) == names
    tx = jopt.adam(0.1)
    state = tx.init(tree)
    grads = jax.tree.map(jnp.ones_like, tree)
    updates, state = jax.jit(tx.update)(grads, state, tree)
    after = jopt.apply_updates(tree, updates)
    assert jax.tree.structure(after) == jax.tree.structure(tree)
    assert type(after) is type(tree)
    for p, q in zip(jax.tree.leaves(tree), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(q, p - 0.1, rtol=1e-6)
    for path in layout_of("t", tree).paths:
        assert lookup(state["adam"]["mu"], path).shape in ((2, 3), (3,))


def test_a_bare_array_has_a_bare_slot():
    state = jopt.adam(0.1).init(a)
    assert state["adam"]["mu"].shape == (2, 3)


def test_slots_mirror_the_parameters_whatever_their_container():
    one = {"l": Layer(a, b), "m": [b]}
    mu = jopt.adam(0.1).init(one)["adam"]["mu"]
    assert jax.tree.map(jnp.shape, mu) == {
        "l": {"kernel": (2, 3), "bias": (3,)},
        "m": {"0": (3,)},
    }


def test_nnx_state_with_variables_and_bare_arrays_have_one_path():
    variables = nnx.state(Model(), nnx.Param)
    bare = nnx.as_pure(variables)
    names = {"first/kernel", "first/bias", "rest/0/kernel", "rest/0/bias"}
    assert set(layout_of("t", variables).names) == names
    assert set(layout_of("t", bare).names) == names
    same(nnx.as_pure(jopt.adam(0.1).init(variables)), jopt.adam(0.1).init(bare))


@pytest.mark.parametrize(
    "layer",
    [Layer(a, b), Linear(a, b, "x"), {"kernel": a, "bias": b}],
    ids=lambda x: type(x).__name__,
)
def test_patterns_see_the_same_path_in_every_container(layer):
    tx = jopt.sgd(0.25, groups={"b": jopt.group(r"^l/bias$", learning_rate=0.5)})
    one = {"l": layer}
    updates, _ = tx.update(one, tx.init(one), one)
    found = sorted(float(u.ravel()[0]) for u in jax.tree.leaves(updates))
    assert found == [-1.0, -0.25]


@dataclass(frozen=True, order=True)
class Key:
    number: int

    def __str__(self):
        return "w"


def test_keys_that_collide_as_strings():
    with error(
        jopt.TreeError,
        """
        sgd: two leaves have the same path once keys are written as strings
          at:       layer/w
          Rename one: a state names its leaves by strings.
        """,
    ):
        jopt.sgd(0.1).init({"layer": {Key(0): a, Key(1): b}})


def test_a_slash_in_a_key_is_not_a_level():
    one = {"a/b": jnp.ones(64, "bfloat16"), "a": {"b": jnp.ones(64, "bfloat16")}}
    tx = jopt.adam(0.1, groups={"fast": jopt.group("^a~1b$", learning_rate=0.5)})
    state = tx.init(one)
    assert jax.tree.map(jnp.shape, state["adam"]["mu"]) == {"a/b": (64,), "a": {"b": (64,)}}
    updates, _ = tx.update(one, state, one)
    assert round(float(updates["a/b"][0]), 5) == -0.5
    assert round(float(updates["a"]["b"][0]), 5) == -0.1
    routes = jopt.routing(jopt.route(tx, b=("a/b", jopt.sgd(0.1))), one)
    assert routes == {"a/b": "b", "a~1b": "rest"}
    with pytest.raises(jopt.TreeError, match="at:       a~1b"):
        tx.update({**one, "a/b": jnp.ones(2)}, state, one)
    # Each draws bits of its own.
    down = jax.tree.map(lambda p: jnp.full(p.shape, -0.001), one)
    p = jopt.apply_updates(one, down, rounding="stochastic", key=jax.random.key(0))
    assert not np.array_equal(p["a/b"], p["a"]["b"])
    # In a file they are called the same.
    found = jopt.checkpoint.differences(one, {"a": one["a"]})
    assert [d.path for d in found] == [("a/b",)]
    loaded = jopt.from_bytes(one, jopt.to_bytes(p), keep="^a~1b$")
    same(loaded, {"a/b": one["a/b"], "a": p["a"]})


keys = st.text("ab/~01", min_size=1, max_size=3)
nested = st.recursive(
    st.integers(0, 99), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3)
)


@given(nested)
def test_nest_undoes_flatten(tree):
    flat = flatten_dict(tree)
    assert nest(flat.keys(), flat.values()) == tree
    for path, value in flat.items():
        assert lookup(tree, path) == value
        assert has(tree, path)
        assert not has(tree, (*path, "more"))
        with pytest.raises(KeyError):
            lookup(tree, (*path, "more"))


@given(nested)
def test_a_layout_names_the_leaves_in_the_order_of_jax(tree):
    layout = layout_of("t", tree)
    assert [lookup(tree, path) for path in layout.paths] == jax.tree.leaves(tree)
    assert len(layout) == len(jax.tree.leaves(tree))
    assert layout.treedef.unflatten(jax.tree.leaves(tree)) == tree
    assert len({*layout.names}) == len(layout)
    assert [from_pointer(f"/{name}") for name in layout.names if layout.paths[0]] == [
        path for path in layout.paths if path
    ]
