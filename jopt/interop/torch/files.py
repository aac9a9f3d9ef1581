"""Files of torch's world, read without running anything that is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jopt.base import CheckpointError


def read_folder(path: Path) -> tuple[dict[str, Any], bool]:
    """The parts of a folder, and whether the model's parameters are in their own order."""
    if (path / ".metadata").is_file():
        raise CheckpointError(
            "read_checkpoint",
            "a distributed checkpoint: to read its index is to run code",
            path=str(path),
            fix="Convert it where you trust it: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE",
        )
    parts: dict[str, Any] = {}
    for key, stem in (("optimizers", "optimizer"), ("schedulers", "scheduler")):
        files = sorted(f for f in path.glob(f"{stem}*") if f.suffix in (".pt", ".bin", ".pth"))
        if files:
            parts[key] = [read_torch(f) for f in files]
    trainer = path / "trainer_state.json"
    if trainer.is_file():
        told = _json(trainer)
        parts |= {k: told[k] for k in ("global_step", "epoch") if told.get(k) is not None}
    for name in ("model.safetensors", "adapter_model.safetensors"):
        if (path / name).is_file():
            return {**parts, "model": _safetensors(path / name)}, False
    index = path / "model.safetensors.index.json"
    if index.is_file():
        model: dict[str, Any] = {}
        for file in _shards(index):
            model |= _safetensors(file)
        return {**parts, "model": model}, False
    if (path / "pytorch_model.bin").is_file():
        parts["model"] = read_torch(path / "pytorch_model.bin")
    return parts, True


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote."""
    import torch

    try:
        with open(path, "rb") as file:
            start = file.read(1)
    except OSError as error:
        raise CheckpointError(
            "read_checkpoint", "the file cannot be read", path=str(path), found=error
        ) from None
    if not start:
        raise CheckpointError("read_checkpoint", "the file is empty", path=str(path))
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle makes of its reader is anything
        first = str(error).strip().split("WeightsUnpickler error: ")[-1].split("\n")[0]
        raise CheckpointError(
            "read_checkpoint",
            "torch cannot read this file without running code from it, or it is damaged",
            path=str(path),
            found=first if len(first) > 3 else repr(error),
            fix="Where you trust it, load it in torch and save what is wanted: "
            'torch.save({"optimizer": optimizer.state_dict(), "model": model.state_dict()}, path).',
        ) from None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "read_checkpoint", "this is no JSON", path=str(path), found=error
        ) from None
    if not isinstance(told, Mapping):
        raise CheckpointError(
            "read_checkpoint",
            "this is another JSON",
            path=str(path),
            expected="a dict",
            found=type(told).__name__,
        )
    return told


def _shards(index: Path) -> list[Path]:
    """The files that an index names: files beside it, not just any path."""
    rows = _json(index).get("weight_map")
    names = list(rows.values()) if isinstance(rows, Mapping) else [None]
    files = [index.parent / n for n in names if isinstance(n, str) and Path(n).name == n]
    if len(files) < len(names):
        raise CheckpointError(
            "read_checkpoint",
            "this is no index of a model in several files",
            path=str(index),
            expected="'weight_map', which names files of this folder",
            found=repr(rows)[:200],
        )
    return sorted(set(files))


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            "read_checkpoint",
            "this file needs the safetensors library",
            path=str(path),
            fix="pip install jopt[safetensors]",
        ) from error
    try:
        tensors: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            "read_checkpoint", "the file cannot be read", path=str(path), found=error
        ) from None
    return tensors
