"""Files of torch's world, read without running anything that is in them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jopt.base import CheckpointError
from jopt.interop.torchfiles.pickles.placeholder import OLD as OLD
from jopt.interop.torchfiles.pickles.placeholder import RefusedError

KNOWN = re.compile(r"^(optim|lr_?scheduler|scheduler|meta$|consolidated)|model")
"""What files are called that hold a part of a run; whole runs are named one by one."""

_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_SHARD = re.compile(r"^(?P<label>.+)-\d+-of-(?P<n>\d+)$")


def read_torch(path: Path, who: str = "read_checkpoint") -> Any:
    """What `torch.save` wrote: plain data, and placeholders for all else."""
    from jopt.interop.torchfiles.pickles import archive

    try:
        with open(path, "rb") as file:
            return archive.read(file)
    except OSError as error:
        raise CheckpointError(who, "the file cannot be read", path=str(path), found=error) from None
    except RefusedError as refused:
        raise CheckpointError(
            who,
            "this is no file of torch that can be read",
            path=str(path),
            found=refused,
            fix="Tensors, numbers, text and containers of them are read, and never code.",
        ) from None


def read_folder(path: Path) -> tuple[dict[str, Any], bool, list[str]]:
    """The parts of a folder, whether the model's tensors keep their order, and what was left."""
    parts: dict[str, Any] = {}
    ordered, left = True, list[str]()
    for folder in (path, *sorted((f for f in path.iterdir() if f.is_dir()), key=natural)):
        if is_distributed(folder):
            tree = read_distributed(folder)
            parts |= tree if folder == path else {folder.name: tree}
            ordered = False
    trainer = path / "trainer_state.json"
    if trainer.is_file():
        told = _json(trainer)
        parts |= {k: told[k] for k in ("global_step", "epoch") if told.get(k) is not None}
    for label, files in _labelled(path, left).items():
        parts[label] = {}
        for file in files:
            held = read_tensors(file)
            parts[label] = {**parts[label], **held} if len(files) > 1 else held
        if len(files) > 1 or files[0].suffix == ".safetensors":
            ordered = False
    return parts, ordered, left


def _labelled(path: Path, left: list[str]) -> dict[str, list[Path]]:
    """The files of each part, in their natural order; `left` gets those that are of none."""
    found: dict[str, list[Path]] = {}
    shards: dict[str, list[Path]] = {}
    # Of a model in two formats, safetensors.
    rows = sorted((f for f in path.iterdir() if f.is_file()), key=natural)
    for file in sorted(rows, key=lambda f: ".safetensors" not in f.name):
        indexed = file.name.endswith(".index.json")
        stem = Path(_bare(file)).stem
        if not (indexed or file.suffix in _SUFFIXES):
            continue
        if (shard := _SHARD.match(stem)) and not indexed:
            shards.setdefault(f"{shard['label']}{file.suffix}", []).append(file)
            continue
        label = re.sub("^pytorch_model", "model", stem)
        if not KNOWN.search(stem) or (label in found and "model" in label):
            left.append(file.name)
            continue
        found[label if label not in found else file.name] = _shards(file) if indexed else [file]
    used = {file for files in found.values() for file in files}
    for name, files in shards.items():
        if used & set(files):
            continue
        label = re.sub("^pytorch_model", "model", Path(name).stem)
        if label in found or not KNOWN.search(label):
            left += [file.name for file in files]
            continue
        wanted = int(_SHARD.match(files[0].stem)["n"])  # type: ignore[index]
        if len(files) != wanted:
            raise CheckpointError(
                "read_checkpoint",
                "not all files of the model are there",
                path=str(path / name),
                expected=f"{wanted} files",
                found=", ".join(file.name for file in files),
            )
        found[label] = files
    return dict(sorted(found.items(), key=lambda row: natural(row[1][0])))


def natural(path: Path) -> list[tuple[int, str]]:
    """To sort files as people count them: `optimizer_2` before `optimizer_10`."""
    pieces = re.split(r"(\d+)", path.stem)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in pieces]


def read_tensors(path: Path) -> Any:
    """What is in a file of `torch.save`, or of safetensors."""
    return _safetensors(path) if path.suffix == ".safetensors" else read_torch(path)


def is_torch_file(file: BinaryIO) -> bool:
    """Whether the file is one of `torch.save`, by what is in it."""
    file.seek(0)
    start = file.read(len(OLD))
    if start == OLD:
        return True
    if not start.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, EOFError):
        return False


def is_torch_folder(folder: Path) -> bool:
    """Whether a trainer of torch's wrote the folder, by the names of its files."""
    if is_distributed(folder) or (folder / "trainer_state.json").is_file():
        return True
    return any(
        KNOWN.search(_bare(f)) and Path(_bare(f)).suffix in _SUFFIXES
        for f in folder.iterdir()
        if f.is_file()
    )


def _bare(file: Path) -> str:
    return file.name.removesuffix(".index.json")


def is_distributed(folder: Path) -> bool:
    """Whether `torch.distributed.checkpoint` wrote the folder."""
    return (folder / ".metadata").is_file()


def read_distributed(folder: Path) -> dict[str, Any]:
    """The tree that `torch.distributed.checkpoint` has divided among the files of a folder."""
    from jopt.interop.torchfiles import distributed

    try:
        return distributed.read(folder)
    except (OSError, RefusedError) as error:
        raise CheckpointError(
            "read_checkpoint",
            "this distributed checkpoint cannot be read",
            path=str(folder),
            found=error,
            fix="Where you trust it, have torch make it one file: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE",
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
