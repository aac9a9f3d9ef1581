"""Nested dicts of tensors, as `torch.save` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint import files
from jopt.checkpoint.leaves import DTYPES, PLAIN, join
from jopt.core import State, Transform
from jopt.core.tree import Tree
from jopt.interop.torch.tensors import to_numpy, to_torch


def read(who: str, path: str) -> Tree:
    """The tree in a `.pt` file; no code from the file is run."""
    unfit: list[str] = []
    tree = _plain(who, _load(who, path), (), unfit)
    if unfit:
        raise CheckpointError(who, join("these entries are no data", unfit))
    return tree


def read_optimizer(
    who: str, path: str, name: str, params: Tree, *, flax: bool
) -> tuple[Transform, State]:
    """The jopt transform and state of a torch optimizer whose state dict is in a `.pt` file."""
    from jopt.interop.torch import flax_weights, from_state_dict

    wide = any(getattr(x, "dtype", None) == np.float64 for x in jax.tree.leaves(params))
    with jax.enable_x64(wide):
        names = flax_weights(params) if flax else None
        return from_state_dict(name, _load(who, path), params, names)


def _load(who: str, path: str) -> Any:
    import torch

    with files.reading(who, path) as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zip and torch raise a dozen kinds
            raise CheckpointError(
                who,
                f"torch cannot read {path}",
                found=_reason(error),
                fix="Only tensors, numbers, strings and containers of them are read, never code.",
            ) from error


def _reason(error: Exception) -> str:
    # torch begins with a page on how to run the code in the file; the reason stands at its end.
    text = str(error).split("WeightsUnpickler error: ")[-1].split("\n")[0].split(" Please ")[0]
    return text if len(text) > 3 else repr(error)


def write(who: str, path: str, tree: Tree) -> None:
    """Write the tree for `torch.load(path, weights_only=True)`."""
    import torch

    unfit: list[str] = []
    tensors = _tensors(who, tree, (), unfit)
    if unfit:
        raise CheckpointError(who, join("torch has no dtype for these leaves", unfit))
    files.replace(who, path, lambda file: torch.save(tensors, file))


def _plain(who: str, node: Any, path: tuple[str, ...], unfit: list[str]) -> Any:
    """Tensors as arrays, containers as dicts."""
    import torch

    if isinstance(node, Mapping):
        if len({str(k) for k in node}) < len(node):
            unfit.append(f"{_shown(path)}: keys that are the same once they are text")
        return {str(k): _plain(who, v, (*path, str(k)), unfit) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return {str(i): _plain(who, v, (*path, str(i)), unfit) for i, v in enumerate(node)}
    if type(node) in PLAIN:
        return node
    problem = f"a {type(node).__name__}"
    if isinstance(node, torch.Tensor):
        held = not (node.is_quantized or node.is_meta) and node.layout == torch.strided
        if held and str(node.dtype).removeprefix("torch.") in DTYPES:
            return to_numpy(who, "/".join(path), node)
        kind = "" if node.layout == torch.strided else f" in {node.layout}"
        problem = f"a tensor of {node.dtype}{kind}" + (" without numbers" if node.is_meta else "")
    unfit.append(f"{_shown(path)}: {problem}")
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
        return to_torch(who, "/".join(path), node)
    unfit.append(f"{_shown(path)}: {name}")
    return None


def _shown(path: tuple[str, ...]) -> str:
    return "/".join(path) or "(the only leaf)"
