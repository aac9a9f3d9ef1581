"""Random changes of a checkpoint by someone who knows the format and mends its checksums."""

import contextlib
import copy
import math
import operator
import zlib

import msgpack

from tests.checkpoint.forge import faithful, put_together, take_apart

WORDS = [
    *("crc32", "dtype", "shape", "value", "/adamw/count", "/adamw/hyperparams/default/eps", "/a"),
    *("/", "", "~1", "/~2", "float32", "bfloat16", "int4", "object", "V3", "complex64", "00000000"),
    *("__msgpack_chunked_array__", "repr", "config", "adamw", "transform", "options", "slots"),
    *(0, 1, 3, -1, True, None, 0.5, float("nan"), 2**31, 2**32, 2**61, 2**63, 2**64 - 1, -(2**63)),
    *({}, [], {"value": 1}, {"value": {}}, {"value": []}, [0], [2**62, 0], [1] * 65, [1] * 2000),
    *(b"", b"bytes", msgpack.ExtType(1, b"\x93\x90\xa4int8\xc4\x01\0"), msgpack.Timestamp(0)),
    *(msgpack.ExtType(2, b"\x92\xcb" + bytes(8) + b"\xcb" + bytes(8)), msgpack.ExtType(2, b"\x90")),
]


def mutated(data, rng, most=2**16):
    """The checkpoint with some edits of its manifest, and either its own tree or a fitting one.

    Bytes without a manifest stay as they are, and so do those that would become too many.
    """
    try:
        body, tail = take_apart(bytes(data))
    except Exception:  # any bytes may come here
        return data
    for _ in range(rng.randrange(1, 4)):
        before = repr(body)
        while repr(body) == before:
            _change(rng.choice(list(_containers(body))), rng)
    made = data
    with contextlib.suppress(Exception):  # a manifest that describes nothing
        _mend(body, tail)
    with contextlib.suppress(Exception):  # numbers that msgpack does not have
        made = put_together(body, tail)
    with contextlib.suppress(Exception):
        if rng.random() < 0.5 and _size(body) < most:
            made = faithful(body["leaves"], body["transform"], body["version"])
    return made if len(made) <= most else data


def _containers(node):
    if isinstance(node, dict | list):
        yield node
        for kid in node.values() if isinstance(node, dict) else node:
            yield from _containers(kid)


def _word(rng):
    return copy.deepcopy(rng.choice(WORDS))


def _change(node, rng):
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    kind = rng.randrange(5)
    if not keys or kind == 0:
        if isinstance(node, list):
            node.append(_word(rng))
        else:
            node[rng.choice([w for w in WORDS if isinstance(w, str)])] = _word(rng)
        return
    key = rng.choice(keys)
    if kind == 1:
        del node[key]
    elif kind == 2:
        node[key] = _word(rng)
    elif kind == 3:
        node[key] = copy.deepcopy(node[rng.choice(keys)])
    elif isinstance(node[key], str) and node[key]:
        text = list(node[key])
        text[rng.randrange(len(text))] = rng.choice("/~0aé\0\x1b\U0010ffff9_ ")
        node[key] = "".join(text)
    elif type(node[key]) is int:
        node[key] += rng.choice((-1, 1))


def _size(body):
    """The bytes that the arrays claim, or more."""
    shapes = [entry.get("shape", []) for entry in body["leaves"].values()]
    return sum(16 * math.prod(abs(operator.index(n)) for n in shape) for shape in shapes)


def _mend(body, tail):
    """Set the checksum of the numbers that stand in the tree, for every array found there."""
    at = 0
    for key in sorted(body["leaves"], key=lambda key: key.split("/")):
        entry = body["leaves"][key]
        if not isinstance(entry, dict) or "crc32" not in entry:
            continue
        name = b"\x93" + msgpack.packb(entry["shape"]) + msgpack.packb(entry["dtype"])
        found = tail.find(name, at)
        if found >= 0:
            at = found + len(name)
            width = {0xC4: 1, 0xC5: 2, 0xC6: 4}[tail[at]]
            size = int.from_bytes(tail[at + 1 : at + 1 + width], "big")
            at += 1 + width
            entry["crc32"] = f"{zlib.crc32(tail[at : at + size]):08x}"
