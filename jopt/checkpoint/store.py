"""Trees to bytes and files, and back."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

from jopt.base import CheckpointError
from jopt.checkpoint import files, wire
from jopt.checkpoint.config import check, describe
from jopt.checkpoint.leaves import flatten, host, rebuild
from jopt.checkpoint.state_dict import fitting, place, with_counts_of
from jopt.core import Transform
from jopt.core.tree import Tree, nest


def to_bytes(tree: Tree, *, tx: Transform | None = None) -> bytes:
    """A tree as bytes: `flax.serialization.msgpack_restore` reads them, checksums guard them.

    Equal trees give equal bytes, whatever the order of their dicts.

    **Arguments:**

    - `tree`: a state, or any pytree of arrays and Python numbers, strings and `None`:
      `{"params": params, "state": state, "step": 3}`.
    - `tx`: the transform of the state. Its text and configuration go into the manifest, and
      `from_bytes(..., tx=tx)` compares.

    **Raises:** `CheckpointError` for leaves that are no data; see `jopt.state_dict`.

    >>> import jax.numpy as jnp, jopt
    >>> data = jopt.to_bytes({"w": jnp.ones(2), "step": 3})
    >>> jopt.from_bytes(None, data)
    {'step': 3, 'w': array([1., 1.], dtype=float32)}
    """
    buffer = io.BytesIO()
    _write("to_bytes", buffer, tree, tx)
    return buffer.getvalue()


def from_bytes(like: Tree, data: bytes, *, tx: Transform | None = None) -> Tree:
    """The tree that `to_bytes` wrote, every byte of it verified.

    **Arguments:**

    - `like`: a tree of the structure wanted, as for `jopt.load_state_dict`; leaves take its
      containers, dtypes and shardings. `None` gives nested dicts of NumPy arrays.
    - `data`: the bytes.
    - `tx`: a transform to compare with the one recorded. Numbers may differ; static choices,
      slots and groups may not.

    **Raises:** `CheckpointError` if a bit was changed, bytes are missing or too many, a newer
    jopt wrote it, the tree does not fit `like` (all differences at once), or another
    configuration of the transform made it.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CheckpointError(
            "from_bytes", "there are no bytes to read", expected="bytes", found=type(data).__name__
        )
    return _read("from_bytes", io.BytesIO(data), like, tx)


def save(path: str | os.PathLike[str], tree: Tree, *, tx: Transform | None = None) -> None:
    """Write a tree to a file, wholly or not at all.

    The bytes are those of `to_bytes`. They go to a temporary file beside `path`, are forced to
    the disk and take its name in one step: killed at any moment, `path` holds the old
    checkpoint or the new one.

    **Arguments:**

    - `path`: the file; its folder has to exist.
    - `tree`, `tx`: as for `to_bytes`.

    **Raises:** `CheckpointError` for leaves that are no data, or if the file cannot be written;
    what stood there before is then untouched.

    >>> import tempfile, jax.numpy as jnp, jopt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jopt.save(f"{folder}/run.jopt", {"w": jnp.ones(2), "step": 3})
    ...     jopt.load(f"{folder}/run.jopt")
    {'step': 3, 'w': array([1., 1.], dtype=float32)}
    """
    files.replace("save", path, lambda file: _write("save", file, tree, tx))


def load(path: str | os.PathLike[str], like: Tree = None, *, tx: Transform | None = None) -> Tree:
    """The tree in a file that `save` wrote, every byte of it verified.

    **Arguments:**

    - `path`: the file.
    - `like`, `tx`: as for `from_bytes`.

    **Raises:** `CheckpointError` as `from_bytes`, and if the file cannot be read.
    """
    with files.reading("load", path) as file:
        return _read(f"load({os.fspath(path)!r})", file, like, tx)


def _write(who: str, file: BinaryIO, tree: Tree, tx: Transform | None) -> None:
    leaves = flatten(who, tree)
    wire.write(who, file, leaves, lambda path: host(who, path, leaves[path]), describe(who, tx))


def _read(who: str, file: BinaryIO, like: Tree, tx: Transform | None) -> Tree:
    manifest = wire.read_manifest(who, file)
    check(who, tx, manifest.transform)
    found = wire.read_leaves(who, file, manifest)
    if like is None:
        leaves = dict(found)
        return nest(leaves, leaves.values())
    kinds = {path: entry.kind for path, entry in manifest.leaves.items()}
    like = with_counts_of(who, like, kinds)
    targets = flatten(who, like)
    advice = "To take what fits: jopt.load_state_dict(like, jopt.load(path), strict=False)."
    fitting(who, targets, kinds, fix=advice)
    return rebuild(who, like, {p: place(who, p, leaf, targets[p]) for p, leaf in found})
