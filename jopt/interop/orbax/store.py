"""Saving and restoring at once, without a manager."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from jopt.base import CheckpointError, JoptError, checked
from jopt.checkpoint.fitting import Keep, Rename
from jopt.checkpoint.manifest import Manifest, damaged
from jopt.core import Transform
from jopt.core.tree import Tree
from jopt.interop.orbax.handler import FILE, Handler, Restore, Save, manifest_of


@checked
def save(path: str | os.PathLike[str], tree: Tree, *, tx: Transform | None = None) -> None:
    """Write a tree as an orbax checkpoint, a folder, and wait until it is complete.

    Every process of a run calls it; each writes what its devices hold. The folder gets its name
    when all is written: killed before, there is no checkpoint.

    **Arguments:**

    - `path`: the folder; it must not exist yet.
    - `tree`, `tx`: as for `jopt.save`.

    **Raises:** `CheckpointError` for leaves that are no data, keys that orbax confuses (`a.b`
    beside `b` in `a`), a folder that is there already, and one that cannot be written.

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
    args = Save(tree, tx)
    try:
        with ocp.Checkpointer(Handler()) as checkpointer:
            checkpointer.save(folder, args=args)
    except JoptError:
        raise
    except Exception as error:  # of the system, through orbax and tensorstore
        facts = {"found": f"{type(error).__name__}: {error}"}
        raise CheckpointError("save", f"{folder} cannot be written", **facts) from error


@checked
def restore(
    path: str | os.PathLike[str],
    like: Tree = None,
    *,
    tx: Transform | None = None,
    strict: bool = True,
    rename: Rename = None,
    keep: Keep = None,
    cast: bool = False,
) -> Any:
    """The tree in an orbax checkpoint that `save` or a `Handler` wrote, every array verified.

    **Arguments:**

    - `path`: the folder.
    - `like`: the structure wanted. Each leaf goes to the devices and has the sharding that it has
      in `like`, whatever the mesh it was saved from. `None` gives NumPy arrays in nested dicts.
    - `tx`, `strict`, `rename`, `keep`, `cast`: as for `jopt.load`. What is cast is read whole by
      every process.

    **Raises:** `CheckpointError` for a changed bit, a tree that does not fit, another
    configuration of the transform, or a folder that no `Handler` wrote.
    """
    folder = os.path.abspath(path)
    if not os.path.isdir(folder):
        raise CheckpointError("restore", f"{folder} is no folder", fix="Correct the path.")
    asked = Restore(like, tx, strict, rename, keep, cast)
    try:
        with ocp.Checkpointer(Handler()) as checkpointer:
            return checkpointer.restore(folder, args=asked)
    except JoptError:
        raise
    except Exception as error:  # of orbax, before or after the handler: a dozen kinds
        who = f"restore({folder!r})"
        raise damaged(who, f"orbax says: {type(error).__name__}: {error}") from error


def recorded(who: str, path: str | os.PathLike[str]) -> Manifest:
    """What a folder says about itself; no array is read."""
    try:
        said = json.loads((Path(path) / FILE).read_bytes())
    except OSError as error:
        fix = "Only folders that jopt's handler has written say what is in them."
        problem = "this is no checkpoint of jopt's handler"
        raise CheckpointError(who, problem, found=error.strerror, fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise damaged(who, f"{FILE} cannot be decoded ({error})") from None
    return manifest_of(who, said)[0]
