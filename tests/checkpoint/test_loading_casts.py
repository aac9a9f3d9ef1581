"""`cast=True`: which dtypes become which, and which numbers have no place there."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jopt
from jopt.checkpoint.leaves import DTYPES
from tests.checkpoint.helpers import assert_same, fails, params, trained

VALUES = {
    "float": [0.0, -0.0, 1 / 3, -2.5, np.inf, -np.inf, np.nan, 1e-30],
    "integer": [0, 1, 100, 127],
    "complex": [1 / 3 + 2j, 0, complex(np.inf, np.nan)],
}
SORTS = {
    "float": ("float16", "bfloat16", "float32", "float64"),
    "integer": ("int8", "uint8", "int32", "uint32", "int64", "uint64"),
    "complex": ("complex64", "complex128"),
}
PAIRS = [(s, a, b) for s, of in SORTS.items() for a, b in itertools.permutations(of, 2)]


@pytest.mark.parametrize(("sort", "source", "target"), PAIRS)
def test_numbers_are_rounded_to_the_dtype_of_like(sort, source, target):
    with np.errstate(all="ignore"):
        state = {"x": np.array(VALUES[sort]).astype(DTYPES[source])}
        expected = {"x": state["x"].astype(DTYPES[target])}
    like = {"x": np.zeros(len(VALUES[sort]), DTYPES[target])}
    assert_same(jopt.load_state_dict(like, state, cast=True), expected)
    back, report = jopt.from_bytes(like, jopt.to_bytes(state), cast=True, strict=False)
    assert_same(back, expected)
    assert report.ok
    assert report.cast == ("x",)
    assert (report.casts[0].expected, report.casts[0].found) == (target, source)
    text = fails(f"x: expected {target}, found {source}", jopt.load_state_dict, like, state)
    assert "cast=True casts numbers." in text


NEVER = [
    ("float32", "int32"), ("int32", "float32"), ("complex64", "float32"), ("float32", "complex64"),
    ("bool", "int8"), ("int8", "bool"), ("float32", "bool"), ("float32", "float4_e2m1fn"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), NEVER)
def test_other_sorts_of_numbers_are_not_cast(source, target):
    like, state = {"x": np.zeros(2, DTYPES[target])}, {"x": np.ones(2, DTYPES[source])}
    line = f"  dtype         x: expected {target}, found {source}"
    text = fails(line, jopt.load_state_dict, like, state, cast=True)
    assert "cast=True" not in text
    back, report = jopt.load_state_dict(like, state, cast=True, strict=False)
    assert_same(back, like)
    assert (report.unfit, report.cast) == (("x",), ())


def test_shapes_and_python_numbers_are_not_cast():
    like = {"x": np.zeros(2, np.float32), "n": 1, "s": jnp.float32(0)}
    state = {"x": np.zeros((2, 1)), "n": 1.0, "s": 3.0}
    text = fails("4 differences", jopt.load_state_dict, like, state, cast=True)
    assert text.splitlines()[1:-1] == [
        "  dtype         n: expected int, found float",
        "  dtype         s: expected float32 (), found float",
        "  dtype         x: expected float32, found float64",
        "  shape         x: expected (2,), found (2, 1)",
    ]


LOST = [
    ([1e5, 1.0, -2e5], "float32", "float16", "2 of 3 overflow float16, the largest 200000"),
    ([3.392e38], "float32", "bfloat16", None),
    ([3.4028235e38], "float32", "bfloat16", "1 of 1 overflow bfloat16, the largest 3.40282e+38"),
    ([500.0, np.nan], "float32", "float8_e4m3fn", "1 of 2 overflow float8_e4m3fn, the largest 500"),
    ([65519.0], "float32", "float16", None),  # rounds to the largest
    ([-1], "int8", "uint64", "from -1 to -1, and uint64 holds 0 to 18446744073709551615"),
    ([2**63], "uint64", "int64", f"from {2**63} to {2**63}, and int64 holds {-(2**63)} to "),
    ([7, -8], "int8", "int4", None),
    ([8], "int8", "int4", "from 8 to 8, and int4 holds -8 to 7"),
    ([], "int64", "int8", None),
    ([1e300j], "complex128", "complex64", "1 of 1 overflow complex64, the largest 1e+300"),
]


@pytest.mark.parametrize(("values", "source", "target", "line"), LOST, ids=repr)
def test_numbers_that_have_no_place_are_an_error(values, source, target, line):
    state = {"x": np.array(values).astype(DTYPES[source]), "y": np.ones(1)}
    like = {"x": np.zeros(len(values), DTYPES[target]), "y": np.zeros(1)}
    if line is None:
        back = jopt.load_state_dict(like, state, cast=True)
        assert_same(back, {"x": state["x"].astype(DTYPES[target]), "y": np.ones(1)})
        return
    head = "these numbers do not fit into the dtype of `like`"
    for strict in (True, False):
        text = fails(head, jopt.load_state_dict, like, state, strict=strict, cast=True)
        assert f"\n  x: {line}" in text
        assert "Nothing was loaded" in text
    assert f"\n  x: {line}" in fails(head, jopt.from_bytes, like, jopt.to_bytes(state), cast=True)
    assert_same(jopt.load_state_dict(like, state, keep="x", cast=True), {**like, "y": np.ones(1)})


def test_all_lost_numbers_at_once():
    like = {"a": np.zeros(1, np.float16), "b": np.zeros((), np.int8)}
    state = {"a": np.full(1, 1e9), "b": np.int32(300)}
    text = fails("do not fit", jopt.load_state_dict, like, state, cast=True)
    assert [line.split(":")[0] for line in text.splitlines()[1:3]] == ["  a", "  b"]


def test_parameters_in_another_dtype():
    state, p = trained()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params())
    data = jopt.to_bytes({"params": p, "state": state})
    back = jopt.from_bytes({"params": half, "state": state}, data, cast=True)
    assert_same(back, {"params": jax.tree.map(lambda x: x.astype(jnp.bfloat16), p), "state": state})
    assert back["params"]["dense"]["w"].dtype == ml_dtypes.bfloat16


def test_a_run_under_x64_goes_on_without(x64):
    tree = jopt.state_dict({"w": jnp.linspace(0.0, 1.0, 5), "n": jnp.arange(3)})
    assert tree["w"].dtype == np.float64
    with jax.enable_x64(False):
        back = jopt.load_state_dict({"w": jnp.zeros(5), "n": jnp.arange(3)}, tree, cast=True)
    assert_same(back, {"w": tree["w"].astype(np.float32), "n": tree["n"].astype(np.int32)})
