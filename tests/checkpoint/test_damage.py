"""No damage passes: every bit, every length, junk, and files made to deceive."""

import itertools
import zlib

import msgpack
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from hypothesis import example, given
from hypothesis import strategies as st

import jopt
from jopt.checkpoint import wire
from tests.checkpoint.helpers import fails, trained

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


def refused(data, like=None):
    try:
        jopt.from_bytes(like, data)
    except jopt.CheckpointError:
        return True
    return False


@pytest.mark.parametrize("chunked", [False, True])
def test_every_flipped_bit_is_an_error(monkeypatch, chunked):
    monkeypatch.setattr(wire, "CHUNK", 8 if chunked else 2**30)
    data = jopt.to_bytes(TREE, tx=jopt.clip_by_global_norm(1.0))
    silent = []
    for at, bit in itertools.product(range(len(data)), range(8)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        if not refused(damaged):
            silent.append((at, bit))
    assert silent == []


def test_every_truncation_is_an_error():
    data = jopt.to_bytes(TREE)
    assert [n for n in range(len(data)) if not refused(data[:n])] == []


@pytest.mark.parametrize("junk", [b"\0", b"\xc0", b"\x80", b"x" * 1000])
def test_appended_junk_is_an_error(junk):
    data = jopt.to_bytes(TREE)
    assert f"{len(junk)} bytes too many" in fails("damaged", jopt.from_bytes, None, data + junk)


def test_two_checkpoints_in_one_are_an_error():
    fails("bytes too many", jopt.from_bytes, None, jopt.to_bytes(TREE) * 2)


def test_errors_name_the_place():
    state, _ = trained()
    data = bytearray(jopt.to_bytes(state))
    data[-2] ^= 1
    text = fails("the bytes of an array do not match their checksum", jopt.from_bytes, None, data)
    assert "at:       clip_by_global_norm/hyperparams/default/max_norm" in text
    assert "Restore an older checkpoint" in text
    text = fails("it ends after", jopt.from_bytes, None, bytes(data)[:-9])
    assert "at:       clip_by_global_norm/hyperparams/default/max_norm" in text
    at = data.rindex(b"\xa2mu\x82")
    data[at + 2] ^= 1
    text = fails("are not what the manifest says", jopt.from_bytes, None, data)
    assert "at:       adamw\n" in text


def test_what_is_no_checkpoint():
    foreign = msgpack_serialize({"w": np.zeros(3)})
    text = fails("this is no jopt checkpoint", jopt.from_bytes, None, foreign)
    assert "flax.serialization.msgpack_restore(data)" in text
    fails("this is no jopt checkpoint", jopt.from_bytes, None, b"PK\x03\x04 and so on")
    fails("it ends after 0 bytes", jopt.from_bytes, None, b"")
    fails("there are no bytes to read", jopt.from_bytes, None, "text")
    other = msgpack_serialize({"jopt": {"format": "else"}, "tree": {}})
    fails("this is no jopt checkpoint", jopt.from_bytes, None, other)


def forged(edit, tree=TREE, tail=None):
    """A checkpoint with an edited manifest and the right checksum over it."""
    data = jopt.to_bytes(tree)
    unpacker = msgpack.Unpacker(ext_hook=lambda code, data: msgpack.ExtType(code, data))
    unpacker.feed(data[len(wire.HEAD) :])
    body = unpacker.unpack()
    rest = data[len(wire.HEAD) + unpacker.tell() :]
    del body["checksum"]
    edit(body)

    def ordered(x):
        return {k: ordered(x[k]) for k in sorted(x)} if isinstance(x, dict) else x

    body = ordered(body)
    checksum = f"{zlib.crc32(msgpack.packb(body)):08x}"
    header = msgpack.packb({"checksum": checksum, **body})
    return wire.HEAD + header + (rest if tail is None else tail)


def test_forging_nothing_changes_nothing():
    assert forged(lambda body: None) == jopt.to_bytes(TREE)


def test_a_newer_version_is_named():
    text = fails("a newer jopt", jopt.from_bytes, None, forged(lambda b: b.update(version=2)))
    assert "format version 1" in text
    assert "format version 2" in text
    assert "pip install --upgrade jopt" in text


def leaf(**facts):
    return lambda body: body["leaves"]["/m/w"].update(facts)


def put(path, entry):
    return lambda body: body["leaves"].update({path: entry})


HOSTILE = {
    "huge": leaf(shape=[2**40]),
    "huge, and empty": leaf(shape=[2**62, 0, 2**62]),
    "many axes": leaf(shape=[1] * 70 + [3]),
    "longer than int64": leaf(shape=[2**64 - 1]),
    "negative": leaf(shape=[-3]),
    "no list": leaf(shape={"0": 3}),
    "bool axis": leaf(shape=[True]),
    "float axis": leaf(shape=[3.0]),
    "another shape": leaf(shape=[1, 3]),
    "another dtype": leaf(dtype="int32"),
    "object": leaf(dtype="object"),
    "unhashable dtype": leaf(dtype=[]),
    "void": leaf(dtype="V3"),
    "crc as number": leaf(crc32=7),
    "crc in capitals": leaf(crc32="0x1F"),
    "another crc": leaf(crc32="00000000"),
    "one fact more": leaf(more=1),
    "no facts": put("/m/w", {}),
    "a list of facts": put("/m/w", ["value"]),
    "a number": put("/m/w", 3),
    "list value": put("/step", {"value": []}),
    "bytes value": put("/step", {"value": b"x"}),
    "filled dict value": put("/step", {"value": {"a": 1}}),
    "one leaf more": put("/z", {"value": 3}),
    "a leaf in a leaf": put("/m/w/x", {"value": 3}),
    "a leaf above all": put("", {"value": 3}),
    "no pointer": put("m", {"value": 3}),
    "bad escape": put("/m~2", {"value": 3}),
    "very deep": put("/a" * 100_000, {"value": 3}),
    "no leaves": lambda body: body.update(leaves={}),
    "leaves as list": lambda body: body.update(leaves=[1]),
    "version 0": lambda body: body.update(version=0),
    "version as text": lambda body: body.update(version="1"),
    "version as bool": lambda body: body.update(version=True),
    "transform as text": lambda body: body.update(transform="adamw"),
    "transform without config": lambda body: body.update(transform={"repr": ""}),
    "more entries": lambda body: body.update(more=1),
    "fewer entries": lambda body: body.pop("transform"),
    "extension": put("/step", {"value": msgpack.ExtType(9, b"x")}),
    "bad complex": put("/c", {"value": msgpack.ExtType(2, b"\x93\x01\x02\x03")}),
    "timestamp": put("/step", {"value": msgpack.Timestamp(0)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_manifests_made_to_deceive(name):
    assert refused(forged(HOSTILE[name]))


def test_deep_nesting_is_an_error():
    deep = b"\x81\xa1x" * 1020 + b"\xc0"
    assert refused(wire.HEAD + deep)
    nested = forged(lambda b: b.update(format="x")) and wire.HEAD + b"\x91" * 5000
    assert refused(nested)


def test_duplicate_keys_are_an_error():
    data = jopt.to_bytes({"a": 1})
    header = msgpack.unpackb(data[len(wire.HEAD) : data.rindex(wire.MIDDLE)])
    twice = msgpack.packb(header)
    twice = bytes([twice[0] + 1]) + msgpack.packb("version") + b"\x01" + twice[1:]
    assert refused(wire.HEAD + twice + data[data.rindex(wire.MIDDLE) :])


@given(st.binary(max_size=200), st.integers(0, 400))
@example(b"\xdf\xff\xff\xff\xff", 0)
@example(b"\xdd\xff\xff\xff\xff", 6)
@example(b"\xdd\x00\x00\x10\x00" * 40, 0)
@example(b"\xc6\xff\xff\xff\xff", 6)
def test_no_bytes_raise_anything_else(junk, at):
    data = jopt.to_bytes(TREE)
    assert refused(data[:at] + junk + data[at + len(junk) + 1 :])
    assert refused(wire.HEAD + junk)
    assert refused(junk)
