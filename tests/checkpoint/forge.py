"""Checkpoints taken apart and put together again with right checksums, as an attacker would."""

import math
import zlib

import msgpack
import numpy as np

from jopt.checkpoint import wire
from jopt.checkpoint.leaves import DTYPES


def take_apart(data):
    """The manifest without its checksum, and the bytes after it; extensions stay as they are."""
    unpacker = msgpack.Unpacker(
        ext_hook=msgpack.ExtType, strict_map_key=False, max_array_len=2**16, max_ext_len=2**16
    )
    unpacker.feed(data[len(wire.HEAD) :])
    body = unpacker.unpack()
    body.pop("checksum", None)
    return body, data[len(wire.HEAD) + unpacker.tell() :]


def put_together(body, tail):
    """The file of a manifest, sorted and with the right checksum over it."""
    body = _ordered(body)
    checksum = f"{zlib.crc32(msgpack.packb(body)):08x}"
    return wire.HEAD + msgpack.packb(_ordered({"checksum": checksum, **body})) + tail


def forged(data, edit):
    """A checkpoint whose manifest was edited, with the right checksum over it."""
    body, tail = take_apart(data)
    edit(body)
    return put_together(body, tail)


def faithful(leaves, transform=None, version=1):
    """The file of these entries, with a tree that is what they say; of arrays all bits are 0."""
    leaves = {key: dict(entry) for key, entry in leaves.items()}
    tree = {}
    for key, entry in leaves.items():
        if "value" in entry:
            leaf = entry["value"]
        else:
            dtype = DTYPES[entry["dtype"]]
            numbers = bytes(math.prod(entry["shape"]) * dtype.itemsize)
            entry["crc32"] = f"{zlib.crc32(numbers):08x}"
            leaf = msgpack.ExtType(1, msgpack.packb((entry["shape"], entry["dtype"], numbers)))
        if not key:
            tree = leaf
            continue
        node = tree
        *path, last = [k.replace("~1", "/").replace("~0", "~") for k in key.split("/")[1:]]
        for name in path:
            node = node.setdefault(name, {})
        node[last] = leaf
    body = {"format": "jopt checkpoint", "leaves": leaves, "transform": transform}
    tail = wire.MIDDLE + msgpack.packb(_ordered(tree))
    return put_together({**body, "version": version}, tail)


def array(dtype, shape):
    """An entry for `faithful`."""
    return {"crc32": "", "dtype": np.dtype(dtype).name, "shape": list(shape)}


def _ordered(x):
    if isinstance(x, dict):
        keys = sorted(x, key=lambda key: (str(type(key)), key))
        return {key: _ordered(x[key]) for key in keys}
    return x
