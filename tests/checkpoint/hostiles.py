"""The hostile files: made by someone who knows the format and can compute its checksums.

`python -m tests.checkpoint.hostiles` writes those missing in `hostile/`. REFUSED are no
checkpoints; NONSENSE are, of states that no transform has.
"""

import math
import pickle
from pathlib import Path

import msgpack
import numpy as np

import jopt
from jopt.checkpoint import wire
from tests.checkpoint.forge import array, faithful, forged

FOLDER = Path(__file__).parent / "hostile"
SMALL = forged(  # of version 1, as the frozen files are
    jopt.to_bytes({"m": {"w": np.arange(3, dtype=np.float32)}, "step": 300, "c": 1j}),
    lambda body: body.update(version=1),
)
ADAMW = "/adamw/hyperparams/default/learning_rate"


def leaf(**facts):
    return forged(SMALL, lambda body: body["leaves"]["/m/w"].update(facts))


def put(path, entry):
    return forged(SMALL, lambda body: body["leaves"].update({path: entry}))


def body(**entries):
    return forged(SMALL, lambda whole: whole.update(entries))


def raw(manifest):
    """A manifest of these bytes, whatever they are."""
    return wire.HEAD + manifest


def spelt(old, new):
    """The small file with some bytes spelt otherwise, where that does not change the meaning."""
    assert SMALL.count(old) >= 1
    return SMALL.replace(old, new, 1)


def config(value):
    return body(transform={"repr": "jopt.adamw()", "config": value})


def nested(depth):
    node = None
    for _ in range(depth):
        node = {"inner": node}
    return node


def turned():
    """The manifest from its last entry to its first."""
    whole = msgpack.unpackb(SMALL, ext_hook=msgpack.ExtType)["jopt"]
    manifest = msgpack.packb(dict(reversed(whole.items())))
    return wire.HEAD + manifest + SMALL[SMALL.index(wire.MIDDLE) :]


def tail(old, new):
    """The small file with another tree than its manifest says."""
    at = SMALL.index(wire.MIDDLE)
    assert old in SMALL[at:]
    return SMALL[:at] + SMALL[at:].replace(old, new, 1)


class Boom:
    """What unpickling this would do."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


REFUSED = {
    # Lengths that lie
    "map-of-4-billion": lambda: b"\xdf\xff\xff\xff\xff" + SMALL[1:],
    "manifest-map-of-4-billion": lambda: raw(b"\xdf\xff\xff\xff\xff\xa1a\x00"),
    "manifest-list-of-4-billion": lambda: raw(b"\x81\xa1a\xdd\xff\xff\xff\xff"),
    "manifest-lists-of-65535-nested": lambda: raw(b"\x81\xa1a" + b"\xdc\xff\xff" * 900),
    "manifest-lists-of-1024-nested": lambda: raw(b"\x81\xa1a" + b"\xdc\x04\x00" * 900),
    "string-of-4-gigabytes": lambda: raw(b"\x81\xdb\xff\xff\xff\xff"),
    "bytes-of-4-gigabytes": lambda: raw(b"\x81\xa1a\xc6\xff\xff\xff\xff"),
    "extension-of-4-gigabytes": lambda: raw(b"\x81\xa1a\xc9\xff\xff\xff\xff\x01"),
    "array-of-a-terabyte": lambda: leaf(shape=[2**38]),
    "array-of-2-to-the-61": lambda: leaf(shape=[2**61 - 1], dtype="int8"),
    "array-of-2-to-the-62": lambda: leaf(shape=[2**62 - 1], dtype="int8"),
    "product-overflows-int64": lambda: leaf(shape=[2**32, 2**32]),
    "product-overflows-to-zero": lambda: leaf(shape=[2**32, 2**32, 2**32]),
    "product-overflows-past-an-empty-axis": lambda: leaf(shape=[2**62, 0, 2**62]),
    "axis-past-int64": lambda: leaf(shape=[2**64 - 1]),
    "negative-axis": lambda: leaf(shape=[-3]),
    "two-negative-axes": lambda: leaf(shape=[-1, -3]),
    "65-axes": lambda: leaf(shape=[1] * 64 + [3]),
    "1024-axes": lambda: leaf(shape=[2**64 - 1] * 1024),
    "2000-axes": lambda: leaf(shape=[1] * 2000),
    "an-array-more": lambda: put("/z", array("int8", [0]) | {"crc32": "00000000"}),
    # Entries of other types than they should be
    "axis-is-true": lambda: leaf(shape=[True]),
    "axis-is-a-float": lambda: leaf(shape=[3.0]),
    "shape-is-a-map": lambda: leaf(shape={"0": 3}),
    "shape-is-text": lambda: leaf(shape="3"),
    "dtype-object": lambda: leaf(dtype="object"),
    "dtype-void": lambda: leaf(dtype="V3"),
    "dtype-big-endian": lambda: leaf(dtype=">f4"),
    "dtype-by-its-code": lambda: leaf(dtype="f4"),
    "dtype-of-records": lambda: leaf(dtype=[["a", "f4"]]),
    "dtype-of-5000-letters": lambda: leaf(dtype="f" * 5000),
    "crc-is-a-number": lambda: leaf(crc32=7),
    "crc-in-capitals": lambda: leaf(crc32="ABCDEF01"),
    "crc-with-a-prefix": lambda: leaf(crc32="0x123456"),
    "crc-of-many-digits": lambda: leaf(crc32="f" * 5000),
    "crc-is-bytes": lambda: leaf(crc32=b"00000000"),
    "entry-is-a-list": lambda: put("/m/w", ["value"]),
    "entry-is-text": lambda: put("/m/w", "value"),
    "entry-is-empty": lambda: put("/m/w", {}),
    "value-is-a-list": lambda: put("/step", {"value": [1]}),
    "value-is-bytes": lambda: put("/step", {"value": pickle.dumps(Boom())}),
    "value-is-a-filled-map": lambda: put("/step", {"value": {"a": 1}}),
    "value-is-an-array-extension": lambda: put("/step", {"value": msgpack.ExtType(1, b"\x93")}),
    "value-is-a-timestamp": lambda: put("/step", {"value": msgpack.Timestamp(0)}),
    "value-is-an-unknown-extension": lambda: put("/step", {"value": msgpack.ExtType(42, b"x")}),
    "complex-of-three": lambda: put("/c", {"value": msgpack.ExtType(2, b"\x93\x01\x02\x03")}),
    "complex-of-text": lambda: put("/c", {"value": msgpack.ExtType(2, b"\x92\xa11\xa12")}),
    "complex-of-integers": lambda: put("/c", {"value": msgpack.ExtType(2, b"\x92\x00\x01")}),
    "complex-of-complex": lambda: put(
        "/c", {"value": msgpack.ExtType(2, b"\x92\xd4\x02\x90\xd4\x02\x90")}
    ),
    "complex-of-lists": lambda: put(
        "/c", {"value": msgpack.ExtType(2, b"\xdd\x00\xff\xff\xff" + b"\xc0" * 9)}
    ),
    # Paths
    "leaf-in-a-leaf": lambda: put("/m/w/x", {"value": 3}),
    "leaf-above-all": lambda: put("", {"value": 3}),
    "path-without-a-slash": lambda: put("m", {"value": 3}),
    "path-with-a-wrong-escape": lambda: put("/m~2", {"value": 3}),
    "path-of-bytes": lambda: body(leaves={b"/m/w": {"value": 3}}),
    "path-257-deep": lambda: faithful({"/a" * 257: {"value": 3}}),
    "path-3000-deep": lambda: put("/a" * 3000, {"value": 3}),
    "path-of-control-codes": lambda: put("/\x1b]0;owned\x07\x1b[2J~", {"value": 3}),
    "path-is-flax-s-own": lambda: faithful(
        {"/x/__msgpack_chunked_array__": {"value": True}, "/x/shape": {"value": {}}}
    ),
    # The manifest as a whole
    "no-leaves": lambda: body(leaves={}),
    "leaves-are-a-list": lambda: body(leaves=[1]),
    "version-0": lambda: body(version=0),
    "version-minus-1": lambda: body(version=-1),
    "version-is-text": lambda: body(version="1"),
    "version-is-true": lambda: body(version=True),
    "version-is-a-float": lambda: body(version=1.0),
    "version-is-nan": lambda: body(version=math.nan),
    "version-2-to-the-64": lambda: body(version=2**64 - 1),
    "format-is-another": lambda: body(format="jopt checkpoint "),
    "format-is-bytes": lambda: body(format=b"jopt checkpoint"),
    "an-entry-more": lambda: body(more=1),
    "an-entry-less": lambda: forged(SMALL, lambda whole: whole.pop("transform")),
    "transform-is-text": lambda: body(transform="jopt.adamw()"),
    "transform-without-config": lambda: body(transform={"repr": "jopt.adamw()"}),
    "config-is-a-list": lambda: config([]),
    "config-with-keys-of-bytes": lambda: config({b"adamw": {}}),
    "config-with-a-timestamp": lambda: config({"adamw": msgpack.Timestamp(0)}),
    "config-with-an-array": lambda: config({"adamw": msgpack.ExtType(1, b"\x93\x90\xa2i1\xc4\0")}),
    "config-300-deep": lambda: config(nested(300)),
    "manifest-is-a-number": lambda: raw(b"\x01"),
    "manifest-5000-deep": lambda: raw(b"\x91" * 5000),
    "manifest-1020-maps-deep": lambda: raw(b"\x81\xa1x" * 1020 + b"\xc0"),
    "manifest-checksum-missing": lambda: (
        wire.HEAD
        + msgpack.packb(
            {"format": "jopt checkpoint", "leaves": {}, "transform": None, "version": 1}
        )
    ),
    # The same meaning in other bytes, under the right checksum
    "key-twice": lambda: spelt(b"\x85\xa8checksum", b"\x86\xa7version\x01\xa8checksum"),
    "keys-in-another-order": turned,
    "number-too-long": lambda: spelt(b"\xa7version\x01", b"\xa7version\xcc\x01"),
    "text-too-long": lambda: spelt(b"\xa7version", b"\xd9\x07version"),
    "map-too-long": lambda: spelt(b"\x85\xa8checksum", b"\xde\x00\x05\xa8checksum"),
    "text-is-no-utf-8": lambda: spelt(b"/step", b"/st\xff\xfe"),
    "text-with-a-surrogate": lambda: spelt(b"/step", b"/s\xed\xa0\x80"),
    "tree-says-another-dtype": lambda: tail(b"\xa7float32", b"\xa5int32"),
    "tree-says-another-shape": lambda: tail(b"\x91\x03", b"\x91\x02"),
    "tree-says-another-value": lambda: tail(b"\xcd\x01\x2c", b"\xcd\x01\x2d"),
    "tree-in-another-order": lambda: tail(b"\xa1c", b"\xa1d"),
    # Other files
    "empty": lambda: b"",
    "pickle": lambda: pickle.dumps(Boom()),
    "pickle-after-the-tree": lambda: SMALL + pickle.dumps(Boom()),
    "zip": lambda: b"PK\x03\x04" + bytes(26),
    "flax": lambda: msgpack.packb({"w": msgpack.ExtType(1, b"\x93\x91\x00\xa4int8\xc4\x00")}),
    "head-alone": lambda: wire.HEAD,
    "manifest-alone": lambda: SMALL[: SMALL.index(wire.MIDDLE)],
}


def state(**changes):
    """A file of an AdamW state with some entries changed; `None` takes one away."""
    entries = {
        "/adamw/count": array("int32", []),
        "/adamw/mu/w": array("float32", [3]),
        "/adamw/nu/w": array("float32", [3]),
        **{f"/adamw/hyperparams/default/{k}": array("float32", []) for k in ("b1", "eps")},
        ADAMW: array("float32", []),
    }
    for path, entry in changes.items():
        whole = path.replace("__", "/")
        for old in [k for k in entries if k == whole or k.startswith(f"{whole}/")]:
            del entries[old]
        if entry is not None:
            entries[whole] = entry
    return faithful(entries)


def value(x):
    return {"value": x}


RATE = ADAMW.replace("/", "__")
NONSENSE = {
    "rate-is-text": lambda: state(**{RATE: value("0.1")}),
    "rate-is-nan": lambda: state(**{RATE: value(math.nan)}),
    "rate-is-none": lambda: state(**{RATE: value(None)}),
    "rate-is-true": lambda: state(**{RATE: value(True)}),
    "rate-is-a-map": lambda: state(**{f"{RATE}__x": value(1), RATE: None}),
    "rate-is-empty": lambda: state(**{RATE: value({})}),
    "rate-is-bool": lambda: state(**{RATE: array("bool", [])}),
    "rate-is-a-matrix": lambda: state(**{RATE: array("float32", [2, 2])}),
    "rate-has-no-elements": lambda: state(**{RATE: array("float32", [0])}),
    "rate-is-complex": lambda: state(**{RATE: array("complex64", [])}),
    "count-is-a-float": lambda: state(__adamw__count=array("float32", [])),
    "count-is-nan": lambda: state(__adamw__count=value(math.nan)),
    "count-is-negative": lambda: state(__adamw__count=value(-1)),
    "count-is-text": lambda: state(__adamw__count=value("7")),
    "count-is-a-vector": lambda: state(__adamw__count=array("int32", [3])),
    "count-is-a-map": lambda: state(__adamw__count=None, __adamw__count__x=value(1)),
    "group-is-text": lambda: state(__adamw__hyperparams__default=value("x")),
    "groups-are-text": lambda: state(__adamw__hyperparams=value("x")),
    "groups-are-an-array": lambda: state(__adamw__hyperparams=array("float32", [2])),
    "schedules-are-a-number": lambda: state(__adamw__schedules=value(1)),
    "schedule-without-a-value": lambda: state(__adamw__schedules__default__b2__v=value(1)),
    "schedule-is-a-number": lambda: state(__adamw__schedules__default__b2=value(1)),
    "schedule-is-an-array": lambda: state(__adamw__schedules__default__b2=array("int8", [2])),
    "leaf-count-is-text": lambda: state(__adamw__leaf_count=value("x")),
    "leaf-count-of-nothing": lambda: state(__adamw__leaf_count__z=array("int32", [])),
    "node-is-text": lambda: state(__adamw=value("x")),
    "inner-is-text": lambda: state(__adamw__inner=value("x")),
    "inner-300-deep": lambda: faithful({"/x" + "/inner/x" * 120: value(1)}),
    "slot-is-text": lambda: state(__adamw__mu__w=value("x")),
    "state-is-a-number": lambda: faithful({"": value(1)}),
    "state-is-an-array": lambda: faithful({"": array("float32", [3])}),
    "empty-with-a-long-axis": lambda: faithful({"/w": array("int8", [2**60, 0])}),
    "64-axes": lambda: faithful({"/w": array("int8", [1] * 64)}),
    "path-256-deep": lambda: faithful({"/a" * 256: value(3)}),
    "keys-of-control-codes": lambda: faithful({"/\x1b]0;owned\x07\x1b[2J": value(3)}),
}

if __name__ == "__main__":
    for folder, files in (("refused", REFUSED), ("nonsense", NONSENSE)):
        (FOLDER / folder).mkdir(parents=True, exist_ok=True)
        for name, make in files.items():
            if not (FOLDER / folder / name).exists():
                (FOLDER / folder / name).write_bytes(make())
