"""orbax folders: those of `jopt.interop.orbax`, and those that orbax alone has written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint.kept import listed
from jopt.checkpoint.manifest import Manifest
from jopt.core.tree import Tree


def read(who: str, path: str) -> Tree:
    """The tree in a folder, as NumPy arrays."""
    from jopt.interop.orbax import restore
    from jopt.interop.orbax.handler import FILE

    if os.path.exists(os.path.join(path, FILE)):
        return restore(path)
    return _plain(who, os.path.abspath(path))


def recorded(who: str, path: str) -> Manifest | None:
    """What jopt's handler says about a folder, `None` of one that orbax alone has written."""
    from jopt.interop.orbax.handler import FILE
    from jopt.interop.orbax.store import recorded

    return recorded(who, path) if os.path.exists(os.path.join(path, FILE)) else None


def write(who: str, path: str, tree: Tree) -> None:
    """Write the folder; one that exists is left alone, with all that is in it."""
    from jopt.interop.orbax import save

    if os.path.lexists(path):
        raise CheckpointError(
            who, f"{path} exists", fix="A folder is never replaced: remove it, or name another."
        )
    save(path, tree)


def _plain(who: str, folder: str) -> Tree:
    import orbax.checkpoint as ocp

    if kept := listed(who, Path(folder)):
        raise CheckpointError(
            who,
            "this is the folder of a run, as jopt.Checkpoints keeps it",
            expected="one of its files",
            fix=f"The newest is {kept[-1].path.name}.",
        )
    if not os.path.exists(os.path.join(folder, "_METADATA")):
        raise CheckpointError(
            who,
            "this folder is no orbax checkpoint of one tree",
            fix="In a manager's folder, name the item: steps/100/default.",
        )
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            known: Any = checkpointer.metadata(folder).item_metadata
            on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), known.tree)
            return checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=on_host))
    except Exception as error:  # of tensorstore, JSON, orbax: all mean an unreadable folder
        what = f"orbax cannot read {folder}"
        raise CheckpointError(who, what, found=f"{type(error).__name__}: {error}") from error
