"""Trees to bytes and files, and back."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal, overload

from jopt.base import CheckpointError, checked
from jopt.checkpoint import files, memory, wire
from jopt.checkpoint import manifest as present
from jopt.checkpoint import progress as bars
from jopt.checkpoint.compare import Report
from jopt.checkpoint.config import describe
from jopt.checkpoint.fetching import another_writes
from jopt.checkpoint.fitting import Changes, Keep, Rename
from jopt.checkpoint.leaves import flatten
from jopt.checkpoint.loading import plan_stored
from jopt.checkpoint.rounds import without_frozen
from jopt.core import Transform
from jopt.core.tree import Tree


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


@overload
def from_bytes(
    like: Tree,
    data: bytes,
    *,
    tx: Transform | None = None,
    strict: Literal[True] = True,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Tree: ...


@overload
def from_bytes(
    like: Tree,
    data: bytes,
    *,
    tx: Transform | None = None,
    strict: Literal[False],
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> tuple[Tree, Report]: ...


@overload
def from_bytes(
    like: Tree,
    data: bytes,
    *,
    tx: Transform | None = None,
    strict: bool,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Tree | tuple[Tree, Report]: ...


@checked(itself=("data",))
def from_bytes(
    like: Tree,
    data: bytes,
    *,
    tx: Transform | None = None,
    strict: bool = True,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Tree | tuple[Tree, Report]:
    """The tree that `to_bytes` wrote, every byte of it verified.

    **Arguments:**

    - `like`: a tree of the structure wanted, as for `jopt.load_state_dict`; leaves take its
      containers, dtypes and shardings. `None` gives nested dicts of NumPy arrays.
    - `data`: the bytes.
    - `tx`: a transform to compare with the one recorded. Static choices, slots and groups may
      not differ. A number may: one that `tx` was built with otherwise than the transform of the
      file rules, as it would at the next update, and the logger `jopt` says what was found and
      what holds. Without `tx`, `like` tells what its transform was built with; without `like`
      the numbers are those of the file.
    - `strict`, `rename`, `keep`, `cast`: as for `jopt.load_state_dict`; the names are those in
      the file. With `strict=False` the result is the pair of tree and report.

    **Raises:** `CheckpointError` if a bit was changed, bytes are missing or too many, a newer
    jopt wrote it, the tree does not fit `like`, or another configuration of the transform made
    it: all differences of both at once.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CheckpointError(
            "from_bytes", "there are no bytes to read", expected="bytes", found=type(data).__name__
        )
    changes = Changes(rename, keep, cast)
    return _read("from_bytes", memory.opened(data), like, tx, strict, changes)


@checked(itself=("path",))
def save(
    path: str | os.PathLike[str],
    tree: Tree,
    *,
    tx: Transform | None = None,
    progress: bool | None = None,
) -> None:
    """Write a tree to a file, wholly or not at all.

    The bytes are those of `to_bytes`. They go to a temporary file beside `path`, are forced to
    the disk and take its name in one step: killed at any moment, `path` holds the old
    checkpoint or the new one.

    In a run of several processes the first one writes a tree with arrays that all of them hold,
    and the others return at once: let them meet, by
    `jax.experimental.multihost_utils.sync_global_devices`, before one reads the file. Arrays that
    are split over processes are for `jopt.interop.orbax.save`, where each writes its part.

    **Arguments:**

    - `path`: the file; its folder has to exist.
    - `tree`, `tx`: as for `to_bytes`.
    - `progress`: whether to show a bar on stderr; needs `rich`. `None` shows one where it is
      installed, stderr is a terminal and there are 256 MiB or more.

    **Raises:** `CheckpointError` for leaves that are no data, if the file cannot be written, or
    if another process or thread is saving to this path; what stood there before is then
    untouched.

    >>> import tempfile, jax.numpy as jnp, jopt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jopt.save(f"{folder}/run.jopt", {"w": jnp.ones(2), "step": 3})
    ...     jopt.load(f"{folder}/run.jopt")
    {'step': 3, 'w': array([1., 1.], dtype=float32)}
    """
    if another_writes("save", flatten("save", tree)):
        return
    files.replace("save", path, lambda file: _write("save", file, tree, tx, progress))


@overload
def load(
    path: str | os.PathLike[str],
    like: Tree = None,
    *,
    tx: Transform | None = None,
    strict: Literal[True] = True,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
    progress: bool | None = None,
) -> Tree: ...


@overload
def load(
    path: str | os.PathLike[str],
    like: Tree = None,
    *,
    tx: Transform | None = None,
    strict: Literal[False],
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
    progress: bool | None = None,
) -> tuple[Tree, Report]: ...


@overload
def load(
    path: str | os.PathLike[str],
    like: Tree = None,
    *,
    tx: Transform | None = None,
    strict: bool,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
    progress: bool | None = None,
) -> Tree | tuple[Tree, Report]: ...


@checked(itself=("path",))
def load(
    path: str | os.PathLike[str],
    like: Tree = None,
    *,
    tx: Transform | None = None,
    strict: bool = True,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
    progress: bool | None = None,
) -> Tree | tuple[Tree, Report]:
    """The tree in a file that `save` wrote, every byte of it verified.

    **Arguments:**

    - `path`: the file.
    - `like`, `tx`, `strict`, `rename`, `keep`, `cast`: as for `from_bytes`.
    - `progress`: as for `jopt.save`.

    **Raises:** `CheckpointError` as `from_bytes`, and if the file cannot be read.
    """
    with files.reading("load", path) as file:
        name = os.fsdecode(path)
        who, verb = f"load({name!r})", f"Loading {os.path.basename(name)}"
        size = os.fstat(file.fileno()).st_size
        with bars.shown(who, verb, file, lambda: size, progress) as shown:
            return _read(who, shown, like, tx, strict, Changes(rename, keep, cast))


def _write(
    who: str,
    file: BinaryIO,
    tree: Tree,
    tx: Transform | None,
    progress: bool | None = False,
) -> None:
    leaves = flatten(who, tree)

    def size() -> int:
        return sum(getattr(leaf, "nbytes", 0) for leaf in leaves.values())

    with bars.shown(who, "Saving", file, size, progress) as shown:
        wire.write(who, shown, leaves, describe(who, tx))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: it would walk the leaves made so far again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def _read(
    who: str,
    file: BinaryIO,
    like: Tree,
    tx: Transform | None,
    strict: bool,
    changes: Changes,
) -> Tree | tuple[Tree, Report]:
    manifest = wire.read_manifest(who, file)
    if like is not None and manifest.version < present.VERSION:
        manifest = without_frozen(manifest, flatten(who, like))
    kinds = {path: entry.kind for path, entry in manifest.leaves.items()}
    made = plan_stored(who, like, kinds, changes, strict, tx, manifest.transform)
    return made.loaded(who, wire.read_leaves(who, file, manifest), tx)
