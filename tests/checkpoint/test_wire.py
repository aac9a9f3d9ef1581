"""The bytes themselves: golden, readable by flax, and the very bytes that flax would write."""

from pathlib import Path

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
from flax.serialization import msgpack_restore, msgpack_serialize

import jopt
from jopt.checkpoint import wire
from tests.checkpoint.helpers import assert_same, trained, transform

GOLDEN = Path(__file__).parent / "golden" / "v2.jopt"


def golden_tree():
    return {
        "params": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "a/b": np.zeros((0, 2))},
        "state": {
            "adamw": {
                "count": np.array(7, np.int32),
                "mu": {"w": np.array([1.5, -2], ml_dtypes.bfloat16)},
                "flags": np.array([True, False]),
                "z": np.array([1 - 2j], np.complex64),
            },
            "empty": {},
        },
        "step": 7,
        "lr": 0.1,
        "done": False,
        "note": "läuft",
        "none": None,
        "c": 1 + 2j,
    }


def test_golden_bytes():
    data = jopt.to_bytes(golden_tree(), tx=jopt.clip_by_global_norm(1.0))
    assert data.hex() == GOLDEN.read_bytes().hex()


def test_golden_file_loads():
    tx = jopt.clip_by_global_norm(2.0)
    assert_same(jopt.load(GOLDEN, tx=tx), golden_tree())
    assert_same(jopt.load(GOLDEN, golden_tree(), tx=tx), golden_tree())


def test_flax_reads_the_file_whole(tmp_path):
    state, p = trained()
    jopt.save(tmp_path / "x", {"state": state, "params": p, "step": 3}, tx=transform())
    whole = msgpack_restore((tmp_path / "x").read_bytes())
    assert sorted(whole) == ["jopt", "tree"]
    assert_same(whole["tree"], jopt.state_dict({"state": state, "params": p, "step": 3}))
    manifest = whole["jopt"]
    assert manifest["format"] == "jopt checkpoint"
    assert manifest["version"] == 2
    assert manifest["transform"]["repr"] == repr(transform())
    assert manifest["leaves"]["/step"] == {"value": 3}
    entry = manifest["leaves"]["/state/adamw/mu/dense/w"]
    assert (entry["dtype"], entry["shape"]) == ("float32", [3, 4])


def test_flax_writes_the_same_bytes():
    state, p = trained()
    for tree in ({"state": state, "params": p}, golden_tree()):
        data = jopt.to_bytes(tree, tx=transform())
        assert msgpack_serialize(msgpack_restore(data)) == data


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 240, 250, 70000])
def test_every_length_of_header(n):
    tree = {"x": np.arange(n, dtype=np.uint8)}
    data = jopt.to_bytes(tree)
    assert msgpack_serialize(msgpack_restore(data)) == data
    assert_same(jopt.from_bytes(None, data), tree)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ml_dtypes.bfloat16, np.complex128])
def test_arrays_too_large_for_one_piece(monkeypatch, dtype):
    monkeypatch.setattr(wire, "CHUNK", 40)
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 40)
    tree = {"x": np.arange(195).reshape(3, 5, 13).astype(dtype), "y": np.zeros(3, np.float32)}
    data = jopt.to_bytes(tree)
    assert data.count(b"__msgpack_chunked_array__") == 1
    assert_same(jopt.from_bytes(None, data), tree)
    assert_same(msgpack_restore(data)["tree"], tree)
    assert msgpack_serialize(msgpack_restore(data)) == data
    assert jopt.to_bytes(msgpack_restore(data)["tree"]) == data


@pytest.mark.slow
def test_more_than_one_gibibyte(tmp_path):
    big = np.zeros(2**30 + 5, np.uint8)
    big[-1] = 7
    jopt.save(tmp_path / "big", {"x": big})
    assert np.array_equal(jopt.load(tmp_path / "big")["x"], big)
    whole = msgpack_restore((tmp_path / "big").read_bytes())
    assert np.array_equal(whole["tree"]["x"], big)
