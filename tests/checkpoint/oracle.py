"""What must hold of any bytes whatever, be they a checkpoint or not."""

import io
from unittest import mock

import numpy as np

import jopt
from jopt.checkpoint import manifest, wire
from jopt.checkpoint.leaves import flatten

TX = jopt.adamw(0.1)
LIKE = jopt.state_dict(TX.init({"w": np.zeros(3, np.float32)}))
REFUSED = object()  # `None` is a tree like any other


def attempt(call, *args, **kwargs):
    """What a call gives, or `REFUSED` if it raised the one error that it may raise."""
    try:
        return call(*args, **kwargs)
    except jopt.JoptError:
        return REFUSED


def scanned(data):
    """The bytes of every leaf, through `wire.scan`, 16 at a time."""
    file, found = io.BytesIO(data), {}
    entries = wire.read_manifest("scan", file)
    for path, _, part in wire.scan("scan", file, entries, 16):
        found[path] = found.get(path, b"") + _bytes(part)
    return found


def saved_again(data, tree):
    """The bytes of a loaded tree, with the transform that its file has recorded."""
    said = wire.read_manifest("again", io.BytesIO(data))
    # A file of an older version has not what its migration adds.
    leaves = {p: x for p, x in flatten("again", tree).items() if p not in said.added}
    out = io.BytesIO()
    with mock.patch.object(manifest, "VERSION", said.version):
        wire.write("again", out, leaves, said.transform)
    return out.getvalue()


def check(data):
    """Only `JoptError` comes out, all ways to read agree, and what loads is saved to the byte.

    Says whether it loads.
    """
    tree, pieces = attempt(jopt.from_bytes, None, data), attempt(scanned, data)
    assert (tree is REFUSED) == (pieces is REFUSED), "load and scan differ"
    attempt(jopt.from_bytes, None, data, tx=TX)
    attempt(jopt.from_bytes, LIKE, data, tx=TX)
    attempt(jopt.from_bytes, LIKE, data, strict=False, cast=True)
    if tree is REFUSED:
        return False
    assert saved_again(data, tree) == data, "saved again, it has other bytes"
    for path, leaf in flatten("pieces", tree).items():
        assert pieces[path] == _bytes(leaf), f"load and scan differ at {path}"
    attempt(jopt.hyperparams, tree)
    attempt(jopt.set_hyperparams, tree, learning_rate=0.5)
    attempt(jopt.checkpoint.differences, LIKE, tree)
    attempt(jopt.load_state_dict, LIKE, tree)
    return True


def _bytes(leaf):
    return leaf.tobytes() if isinstance(leaf, np.ndarray) else repr(leaf).encode()
