"""Trees to safetensors files, and back."""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

from jopt.base import CheckpointError, checked
from jopt.checkpoint import files, memory
from jopt.checkpoint.compare import Report
from jopt.checkpoint.config import describe
from jopt.checkpoint.fetching import another_writes, fetched
from jopt.checkpoint.fitting import Changes, Keep, Rename
from jopt.checkpoint.leaves import flatten, join, kinds_of
from jopt.checkpoint.loading import plan_stored
from jopt.checkpoint.manifest import ArrayEntry, blank
from jopt.core import Transform
from jopt.core.paths import shown
from jopt.core.tree import Tree
from jopt.interop.safetensors.format import METADATA, NAMES, ORDER, pack
from jopt.interop.safetensors.reading import contents, read


@checked
def save(path: str | os.PathLike[str], tree: Tree, *, tx: Transform | None = None) -> None:
    """Write a tree as a safetensors file, wholly or not at all.

    Any safetensors reader gets the arrays, named `params/dense/kernel`; `load` gets the
    same tree back. Killed at any moment, `path` holds the old file or the new one. Memory
    beyond the tree: one array.

    **Arguments:**

    - `path`: the file; its folder has to exist.
    - `tree`: as for `jopt.save`. Keys joined by `/` name a leaf; a `/` within a key is
      `~1`, a `~` is `~0`.
    - `tx`: the transform of the state, for `load(..., tx=tx)` to compare with.

    **Raises:** `CheckpointError` for leaves that are no data, for dtypes that safetensors does
    not have (complex128, integers of 4 bits and the like: cast them, or use `jopt.save`), or if
    the file cannot be written; what stood there is then untouched.

    >>> import tempfile, jax.numpy as jnp, jopt, jopt.interop.safetensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/run.safetensors"
    ...     jopt.interop.safetensors.save(file, {"w": jnp.ones(2), "step": 3})
    ...     jopt.interop.safetensors.load(file)
    {'step': 3, 'w': array([1., 1.], dtype=float32)}
    """
    if another_writes("save", flatten("save", tree)):
        return
    files.replace("save", path, lambda file: _write("save", file, tree, tx))


@checked
def load(
    path: str | os.PathLike[str],
    like: Tree = None,
    *,
    tx: Transform | None = None,
    strict: bool = True,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Tree | tuple[Tree, Report]:
    """The tree in a safetensors file: one that `save` wrote, verified, or anyone's.

    A file of another origin has no checksums and no Python values: its tensors come as a nested
    dict, `/` in a name being one level. `rename={"[.]": "/"}` nests names with dots.

    **Arguments:**

    - `path`: the file.
    - `like`, `tx`, `strict`, `rename`, `keep`, `cast`: as for `jopt.load`.

    **Returns:** as `jopt.load`: the tree; with `strict=False` the pair of tree and report.

    **Raises:** `CheckpointError` for a file that is damaged or no safetensors file, for a changed
    bit in one that `save` wrote, for dtypes that NumPy does not have, and as `jopt.load`;
    `ConfigError` if safetensors is not installed.
    """
    who = f"load({os.fspath(path)!r})"
    changes = Changes(rename, keep, cast)
    with files.reading("load", path) as file:
        found = contents(who, path, file)
        recorded = found.manifest.transform if found.manifest else None
        made = plan_stored(who, like, found.kinds, changes, strict, tx, recorded)
        return made.loaded(who, read(who, file, found), tx)


def _write(who: str, file: BinaryIO, tree: Tree, tx: Transform | None) -> None:
    leaves = flatten(who, tree)
    kinds = kinds_of(who, leaves)
    arrays = [path for path, kind in kinds.items() if kind.shape is not None]
    unfit = [f"{shown(p)}: {kinds[p].dtype}" for p in arrays if kinds[p].dtype not in NAMES]
    if unfit:
        fix = "Cast them, or use jopt.save, which has all dtypes."
        raise CheckpointError(who, join("safetensors has no such dtypes", unfit), fix=fix)
    if (METADATA,) in arrays:
        raise CheckpointError(who, "safetensors keeps this key for itself", path=METADATA)
    arrays.sort(key=lambda p: (ORDER[kinds[p].dtype], shown(p).encode()))
    entries = blank(leaves, kinds)
    transform = describe(who, tx)
    # The sums are known once the arrays have passed by. They have a fixed width, so the header
    # is written twice in place of reading every array twice.
    start = file.tell()
    file.write(pack(who, arrays, entries, transform))
    for path, array in zip(arrays, fetched(who, ((p, leaves[p]) for p in arrays)), strict=True):
        data = memory.bytes_of(array)
        kind = kinds[path]
        entries[path] = ArrayEntry(kind.shape or (), kind.dtype, f"{zlib.crc32(data):08x}")
        file.write(data)
        del array, data  # they may go before the next comes
    end = file.tell()
    file.seek(start)
    file.write(pack(who, arrays, entries, transform))
    file.seek(end)
