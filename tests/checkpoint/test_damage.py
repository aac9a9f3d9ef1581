"""No accident passes: every bit, every length, junk, through every way to read a file."""

import io
import itertools
import random

import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from hypothesis import example, given
from hypothesis import strategies as st

import jopt
from jopt.checkpoint import wire
from tests.checkpoint.forge import forged
from tests.checkpoint.helpers import fails, params, transform
from tests.checkpoint.oracle import scanned

TREE = {
    "m": {"w": np.arange(3, dtype=np.float32), "é/": np.zeros((2, 0), np.int8)},
    "step": 300,
    "lr": 0.5,
    "on": True,
    "c": 1j,
    "none": None,
    "empty": {},
    "name": "run",
}


def scan(data):
    """As the command line reads: a part of a leaf at a time, then no more of it."""
    file = io.BytesIO(data)
    for _ in wire.scan("scan", file, wire.read_manifest("scan", file)):
        pass


def load_from(file, data):
    file.seek(0)
    file.write(data)
    file.truncate()
    return jopt.load(file.name)


@pytest.fixture(params=["from_bytes", "load", "scan"])
def read(request, tmp_path):
    """The three ways to read."""
    if request.param == "load":
        # One file that stays open: to make thousands is slow.
        with open(tmp_path / "x", "w+b", buffering=0) as file:
            yield lambda data: load_from(file, data)
    else:
        yield scan if request.param == "scan" else lambda data: jopt.from_bytes(None, data)


def refused(read, data):
    try:
        read(data)
    except jopt.CheckpointError:
        return True
    return False


@pytest.fixture(params=[2**30, 8], ids=["whole", "chunked"])
def small(request, monkeypatch):
    """A small file, once with its arrays in pieces."""
    monkeypatch.setattr(wire, "CHUNK", request.param)
    return jopt.to_bytes(TREE, tx=jopt.clip_by_global_norm(1.0))


def test_every_flipped_bit_is_an_error(small, read):
    read(small)
    silent = []
    for at, bit in itertools.product(range(len(small)), range(8)):
        damaged = bytearray(small)
        damaged[at] ^= 1 << bit
        if not refused(read, damaged):
            silent.append((at, bit))
    assert silent == []


def test_every_truncation_is_an_error(small, read):
    assert [n for n in range(len(small)) if not refused(read, small[:n])] == []


@pytest.mark.parametrize("junk", [b"\0", b"\xc0", b"\x80", b"x" * 1000])
def test_appended_junk_is_an_error(small, read, junk):
    assert f"{len(junk)} bytes too many" in fails("damaged", read, small + junk)


def test_two_checkpoints_in_one_are_an_error(small, read):
    fails("bytes too many", read, small * 2)


def large(megabytes):
    rng = np.random.default_rng(0)
    size = megabytes * 2**20 // 4
    return {
        "params": {"w": rng.standard_normal(size // 2, np.float32), "b": np.zeros(7, np.float16)},
        "state": {"mu": rng.standard_normal((size // 4, 1), np.float32), "count": np.int32(3)},
        "rows": [np.full(1000, i, np.int32) for i in range(size // 4000)],
    }


def damage_at_random(data, read, places, seed):
    """How many of so many random flips, and cuts and doubled bytes, nobody noticed."""
    rng, silent = random.Random(seed), 0
    read(data)
    for _ in range(places):
        at, bit = rng.randrange(len(data)), rng.randrange(8)
        data[at] ^= 1 << bit
        silent += not refused(read, data)
        data[at] ^= 1 << bit
    read(data)
    return silent


@pytest.mark.parametrize(
    ("megabytes", "places"), [(2, 40), pytest.param(20, 1000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("chunk", [2**30, 2**18])
def test_random_places_of_a_large_file(monkeypatch, read, megabytes, places, chunk):
    monkeypatch.setattr(wire, "CHUNK", chunk)
    data = bytearray(jopt.to_bytes(large(megabytes)))
    assert data.count(b"__msgpack_chunked_array__") == (2 if chunk < 2**30 else 0)
    assert damage_at_random(data, read, places, seed=chunk) == 0


def test_errors_name_the_place(read):
    state = transform().init(params())
    data = bytearray(jopt.to_bytes(state))
    data[-2] ^= 1
    text = fails("the bytes of an array do not match their checksum", read, data)
    assert "at:       clip_by_global_norm/hyperparams/default/max_norm" in text
    assert "Restore an older checkpoint" in text
    text = fails("it ends after", read, bytes(data)[:-9])
    assert "at:       clip_by_global_norm/hyperparams/default/max_norm" in text
    at = data.rindex(b"\xa2mu\x82")
    data[at + 2] ^= 1
    text = fails("are not what the manifest says", read, data)
    assert "at:       adamw\n" in text


def test_what_is_no_checkpoint(read):
    foreign = msgpack_serialize({"w": np.zeros(3)})
    text = fails("this is no jopt checkpoint", read, foreign)
    assert "flax.serialization.msgpack_restore(data)" in text
    fails("this is no jopt checkpoint", read, b"PK\x03\x04 and so on")
    fails("it ends after 0 bytes", read, b"")
    other = msgpack_serialize({"jopt": {"format": "else"}, "tree": {}})
    fails("this is no jopt checkpoint", read, other)
    fails("there are no bytes to read", jopt.from_bytes, None, "text")


def test_forging_nothing_changes_nothing():
    assert forged(jopt.to_bytes(TREE), lambda body: None) == jopt.to_bytes(TREE)


def test_a_dtype_of_a_newer_ml_dtypes_is_named():
    data = forged(
        jopt.to_bytes(TREE), lambda body: body["leaves"]["/m/w"].update(dtype="float5_e2m2")
    )
    text = fails("no dtype is called 'float5_e2m2' here", jopt.from_bytes, None, data)
    assert "at:       /m/w" in text
    assert "pip install --upgrade ml_dtypes" in text


@given(st.binary(max_size=200), st.integers(0, 400))
@example(b"\xdf\xff\xff\xff\xff", 0)
@example(b"\xdd\xff\xff\xff\xff", 6)
@example(b"\xdd\x00\x00\x10\x00" * 40, 0)
@example(b"\xc6\xff\xff\xff\xff", 6)
def test_no_bytes_raise_anything_else(junk, at):
    data = jopt.to_bytes(TREE)
    for some in (data[:at] + junk + data[at + len(junk) + 1 :], wire.HEAD + junk, junk):
        for read in (scanned, lambda data: jopt.from_bytes(None, data)):
            assert refused(read, some)
