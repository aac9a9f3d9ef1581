"""Whatever goes into the bytes comes out of them: types, dtypes, shapes, bits, structure."""

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from flax.serialization import msgpack_restore
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jopt
from jopt.checkpoint.leaves import DTYPES, flatten
from jopt.core.tree import layout_of
from tests.checkpoint.helpers import assert_same, fails, trained


@pytest.mark.parametrize("name", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (2, 3)])
def test_every_dtype_and_shape(name, shape):
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape).astype(DTYPES[name])
    data = jopt.to_bytes({"x": array})
    assert_same(jopt.from_bytes(None, data), {"x": array})
    assert_same(msgpack_restore(data)["tree"], {"x": array})


def test_the_usual_dtypes_are_there():
    usual = ["bool", "uint8", "int32", "float16", "bfloat16", "float64", "complex64", "int4"]
    assert set(usual) <= set(DTYPES)


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**64 - 1, -(2**63), 1.5, -0.0, float("nan"), float("inf"), True, False, None, "",
     "läufer/~", 2 - 1j, complex("nan"), {}, {"a": {}}],
    ids=repr,
)  # fmt: skip
def test_python_values_stay_what_they_are(value):
    for tree in (value, {"x": value, "y": np.zeros(2)}):
        data = jopt.to_bytes(tree)
        assert_same(jopt.from_bytes(None, data), tree)
        assert_same(msgpack_restore(data)["tree"], tree)


def test_numbers_and_0d_arrays_are_told_apart():
    tree = {"int": 3, "array": np.int64(3), "jax": jnp.int32(3), "float": 3.0, "bool": True}
    back = jopt.from_bytes(None, jopt.to_bytes(tree))
    assert type(back["int"]) is int
    assert type(back["float"]) is float
    assert type(back["bool"]) is bool
    for key, dtype in (("array", np.int64), ("jax", np.int32)):
        assert type(back[key]) is np.ndarray
        assert back[key].shape == ()
        assert back[key].dtype == dtype


def test_any_keys_without_collision():
    tree = {"a/b": np.zeros(1), "a": {"b": np.ones(1), "": np.ones(2)}, "a~1b": 1, "~": {"/": 2}}
    assert_same(jopt.from_bytes(None, jopt.to_bytes(tree)), tree)


def test_not_every_memory_order_is_the_same_but_every_number_is():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = jopt.to_bytes({"x": a})
    for same in (np.asfortranarray(a), a.astype(">f4"), jnp.asarray(a), a.T.copy().T):
        assert jopt.to_bytes({"x": same}) == expected


def test_equal_trees_have_equal_bytes_in_any_order():
    state, p = trained()

    def reverse(tree):
        if not isinstance(tree, dict):
            return tree
        return {k: reverse(tree[k]) for k in reversed(list(tree))}

    tree = {"state": state, "params": p, "step": 3, "a!": {"a/": 1}, "a": {"z": 2, "é": 3}}
    assert list(reverse(tree)) != list(tree)
    assert jopt.to_bytes(reverse(tree)) == jopt.to_bytes(tree)


def test_arrays_that_come_back_are_ones_own():
    data = bytearray(jopt.to_bytes({"x": np.zeros(3)}))
    back = jopt.from_bytes(None, data)
    data[-24:] = b"\xff" * 24
    back["x"][0] = 1.0
    assert back["x"].tolist() == [1.0, 0.0, 0.0]


class Net(eqx.Module):
    layers: list
    bias: jax.Array | None
    name: str = eqx.field(static=True)


def modules():
    net = Net([eqx.nn.Linear(2, 3, key=jax.random.key(0)), {"w": jnp.ones(2)}], None, "net")
    rngs = nnx.Rngs(0)
    return {
        "equinox": net,
        "nnx": nnx.state(nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs))),
        "tuple": (jnp.ones(2), [jnp.zeros(1), {}], ()),
        "optax": {"mu": jax.tree_util.Partial(max, jnp.ones(2))},
    }  # fmt: skip


@pytest.mark.parametrize("kind", sorted(modules()))
def test_containers_come_back_as_they_were(kind):
    tree = modules()[kind]
    data = jopt.to_bytes(tree)
    blank = jax.tree.map(jnp.zeros_like, tree)
    back = jopt.from_bytes(blank, data)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("kind", sorted(modules()))
def test_leaves_have_the_names_that_slots_have(kind):
    tree = modules()[kind]
    arrays = {p for p, x in flatten("test", tree).items() if isinstance(x, jax.Array)}
    assert arrays == set(layout_of("test", tree).paths)


def test_what_is_no_data_is_refused_all_at_once():
    tree = {
        "key": jax.random.key(0),
        "f": jnp.tanh,
        "o": np.array([None]),
        "s": np.array("text"),
        "q": np.zeros(2, np.longdouble),
        "ok": np.zeros(2),
    }
    text = fails("these leaves cannot be in a checkpoint", jopt.to_bytes, tree)
    assert "key: a typed PRNG key is no data; save jax.random.key_data(key)" in text
    assert "jax.random.wrap_key_data(data)" in text
    assert "f: a " in text
    assert "equinox.filter(model, equinox.is_array)" in text
    assert "o: dtype object has no place" in text
    assert "s: dtype str" in text
    assert "q: dtype longdouble" in text or "q: dtype float128" in text
    assert "ok" not in text.split()


def test_key_data_round_trips():
    key = jax.random.key(7)
    data = jopt.to_bytes({"key": jax.random.key_data(key)})
    back = jax.random.wrap_key_data(jopt.from_bytes(None, data)["key"])
    assert jax.random.normal(back) == jax.random.normal(key)


def test_leaves_that_msgpack_cannot_hold():
    text = fails("msgpack cannot hold these leaves", jopt.to_bytes, {"a": 2**64, "b": "\ud800"})
    assert "'a': " in text
    assert "'b': " in text
    fails("two keys of a dict are the same", jopt.to_bytes, {"1": 0, 1: 0})
    fails("flax's format keeps this key", jopt.to_bytes, {"x": {"__msgpack_chunked_array__": 1}})
    deep = leaf = {}
    for _ in range(300):
        leaf["x"] = leaf = {}
    fails("deeper than 256 levels", jopt.to_bytes, deep)


def test_donated_and_traced_arrays_say_what_to_do():
    x = jnp.ones(4)
    jax.jit(lambda x: x + 1, donate_argnums=0)(x)
    fails("donated", jopt.to_bytes, {"x": x})
    fails("Call it outside of jit", jax.jit(lambda x: jopt.to_bytes({"x": x})), jnp.ones(2))
    fails("a shape without numbers", jopt.to_bytes, {"x": jax.ShapeDtypeStruct((2,), "float32")})


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
arrays = hnp.arrays(
    st.sampled_from([np.dtype(d) for d in ("f4", "f8", "i4", "u1", "?", "c8", ml_dtypes.bfloat16)]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    elements=st.just(1),
)
values = st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1) | texts
trees = st.recursive(arrays | values, lambda t: st.dictionaries(texts, t, max_size=4), max_leaves=8)


@given(trees)
def test_any_tree(tree):
    data = jopt.to_bytes(tree)
    assert_same(jopt.from_bytes(None, data), tree)
    assert_same(jopt.from_bytes(tree, data), tree)
    assert_same(msgpack_restore(data)["tree"], tree)
