"""Saving and restoring at once, without a manager."""

from __future__ import annotations

import os
from typing import Any

import orbax.checkpoint as ocp

from jopt.base import CheckpointError
from jopt.checkpoint.loading import Keep, Rename
from jopt.core import Transform
from jopt.core.tree import Tree
from jopt.interop.orbax.handler import Handler, Restore, Save


def save(path: str | os.PathLike[str], tree: Tree, *, tx: Transform | None = None) -> None:
    """Write a tree as an orbax checkpoint, a folder, and wait until it is complete.

    Every process of a run calls it; each writes what its devices hold. The folder gets its name
    when all is written: killed before, there is no checkpoint.

    **Arguments:**

    - `path`: the folder; it must not exist yet.
    - `tree`, `tx`: as for `jopt.save`.

    **Raises:** `CheckpointError` for leaves that are no data, keys that orbax confuses (`a.b`
    beside `b` in `a`), and a folder that is there already.

    >>> import tempfile, jax.numpy as jnp, jopt, jopt.interop.orbax
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jopt.interop.orbax.save(f"{folder}/step_3", {"w": jnp.ones(2), "step": 3})
    ...     jopt.interop.orbax.restore(f"{folder}/step_3")
    {'step': 3, 'w': array([1., 1.], dtype=float32)}
    """
    folder = os.path.abspath(path)
    if os.path.exists(folder):
        fix = "Give each step a folder of its own, or remove the old one."
        raise CheckpointError("save", f"{folder} exists already", fix=fix)
    with ocp.Checkpointer(Handler()) as checkpointer:
        checkpointer.save(folder, args=Save(tree, tx))


def restore(
    path: str | os.PathLike[str],
    like: Tree = None,
    *,
    tx: Transform | None = None,
    strict: bool = True,
    rename: Rename = None,
    keep: Keep = None,
) -> Any:
    """The tree in an orbax checkpoint that `save` or a `Handler` wrote, every array verified.

    **Arguments:**

    - `path`: the folder.
    - `like`: the structure wanted. Each leaf goes to the devices and has the sharding that it has
      in `like`, whatever the mesh it was saved from. `None` gives NumPy arrays in nested dicts.
    - `tx`, `strict`, `rename`, `keep`: as for `jopt.load`.

    **Raises:** `CheckpointError` for a changed bit, a tree that does not fit, another
    configuration of the transform, or a folder that no `Handler` wrote.
    """
    folder = os.path.abspath(path)
    if not os.path.isdir(folder):
        raise CheckpointError("restore", f"{folder} is no folder", fix="Correct the path.")
    with ocp.Checkpointer(Handler()) as checkpointer:
        return checkpointer.restore(folder, args=Restore(like, tx, strict, rename, keep))
