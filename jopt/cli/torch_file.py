"""Nested dicts of tensors, as `torch.save` writes them, and folders of such files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jopt.base import CheckpointError, doubles
from jopt.checkpoint import files
from jopt.checkpoint.leaves import DTYPES, PLAIN, join
from jopt.core import State, Transform
from jopt.core.paths import MAX_DEPTH, shown
from jopt.core.tree import Tree
from jopt.interop.torch.tensors import to_numpy, to_torch

ENTRIES = 10**7
"""More than any file of torch holds; a small one can say that it holds endless ones."""


def read(who: str, path: str) -> Tree:
    """The tree in a file or a folder of torch's; no code from it is run."""
    return read_all(who, path)[0]


def read_all(who: str, path: str) -> tuple[Tree, list[str]]:
    """The tree, and which entries are objects of classes: of those it has the names alone."""
    from jopt.interop.torchfiles.files import read_folder, read_torch

    given = read_folder(Path(path))[0] if os.path.isdir(path) else read_torch(Path(path), who)
    walk = _Walk(who)
    tree = walk.plain(given, ())
    if walk.unfit:
        raise CheckpointError(who, join("these entries are no data", walk.unfit))
    return tree, walk.objects


def read_optimizer(
    who: str, path: str, name: str, params: Tree, *, flax: bool, which: str | None
) -> tuple[Transform, State]:
    """The jopt transform and state of a torch optimizer, alone or in the file of a whole run."""
    from jopt.interop.torch import flax_weights, from_state_dict, read_checkpoint

    run = read_checkpoint(path, which=which)
    if len(run.optimizers) != 1:
        raise CheckpointError(
            who,
            "one optimizer becomes a state",
            found=f"{len(run.optimizers)} optimizers: {', '.join(run.labels)}"
            if run.optimizers
            else "none",
            fix=f"Choose one: --which {run.labels[0]}." if run.optimizers else None,
        )
    wide = any(getattr(x, "dtype", None) == np.float64 for x in jax.tree.leaves(params))
    with doubles(wide):
        names = flax_weights(params) if flax else None
        return from_state_dict(name, run.optimizers[0], params, names)


def write(who: str, path: str, tree: Tree) -> None:
    """Write the tree for `torch.load(path, weights_only=True)`."""
    import torch

    unfit: list[str] = []
    tensors = _tensors(who, tree, (), unfit)
    if unfit:
        raise CheckpointError(who, join("torch has no dtype for these leaves", unfit))
    files.replace(who, path, lambda file: torch.save(tensors, file))


class _Walk:
    """Tensors as arrays, containers as dicts, and notes on what is neither."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.unfit: list[str] = []
        self.objects: list[str] = []
        self._entries = 0

    def plain(self, node: Any, path: tuple[str, ...]) -> Any:
        import torch

        from jopt.interop.torchfiles.parts import items
        from jopt.interop.torchfiles.pickles.placeholder import Name, Placeholder

        self._entries += 1
        if len(path) > MAX_DEPTH or self._entries > ENTRIES:
            raise CheckpointError(
                self.who,
                "the file holds containers within containers without end",
                expected=f"{MAX_DEPTH} levels, {ENTRIES:,} entries at most",
            )
        if (inner := items(node)) is not None:
            if len({str(k) for k in inner}) < len(inner):
                self.unfit.append(f"{_shown(path)}: keys that are the same once they are text")
            return {str(k): self.plain(v, (*path, str(k))) for k, v in inner.items()}
        if isinstance(node, set | frozenset):
            node = sorted(node, key=repr)
        if isinstance(node, list | tuple):
            return {str(i): self.plain(v, (*path, str(i))) for i, v in enumerate(node)}
        if type(node) in PLAIN:
            return node
        if isinstance(node, Placeholder | Name):
            self.objects.append(f"{_shown(path)}: {node!r}")
            return repr(node)
        if isinstance(node, torch.dtype | torch.device | torch.layout):
            return str(node)
        if isinstance(node, bytes | bytearray):
            return np.frombuffer(bytes(node), np.uint8)
        if isinstance(node, np.ndarray | np.generic):
            if node.dtype.kind in "SU":
                return self.plain(node.astype("U").tolist(), path)
            return np.asarray(node)
        return self._array(node, path)

    def _array(self, node: Any, path: tuple[str, ...]) -> Any:
        import torch

        problem = f"a {type(node).__name__}"
        if isinstance(node, torch.Tensor):
            held = not (node.is_quantized or node.is_meta) and node.layout == torch.strided
            if held and str(node.dtype).removeprefix("torch.") in DTYPES:
                return to_numpy(self.who, shown(path), node)
            kind = "" if node.layout == torch.strided else f" in {node.layout}"
            problem = f"a tensor of {node.dtype}{kind}"
            problem += " without numbers" if node.is_meta else ""
        self.unfit.append(f"{_shown(path)}: {problem}")
        return None


def _tensors(who: str, node: Any, path: tuple[str, ...], unfit: list[str]) -> Any:
    """Arrays as tensors."""
    import torch

    if isinstance(node, Mapping):
        return {k: _tensors(who, v, (*path, k), unfit) for k, v in node.items()}
    if type(node) in PLAIN:
        return node
    name = node.dtype.name
    # torch has the names of some dtypes without being able to hold them: those of ml_dtypes
    # that are no floating ones.
    held = node.dtype.isbuiltin == 1 or ("float" in name and hasattr(torch, name))
    if held:
        return to_torch(who, shown(path), node)
    unfit.append(f"{_shown(path)}: {name}")
    return None


def _shown(path: tuple[str, ...]) -> str:
    return shown(path) or "(the only leaf)"
