"""The file formats that the commands know: which one a file has, and trees in and out of each.

A tree is nested dicts of NumPy arrays and Python values, whatever the format calls them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jopt.base import CheckpointError
from jopt.checkpoint import files, wire
from jopt.checkpoint.leaves import flatten, join
from jopt.checkpoint.store import load
from jopt.core.paths import shown
from jopt.core.tree import Tree

Recorded = Mapping[str, Any] | None
"""What a jopt checkpoint says about its transform: `{"repr", "config"}`."""


@dataclass(frozen=True)
class Format:
    """One format: the suffixes it goes by, how to read a tree, and how to write one."""

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[str, str], Tree]
    write: Callable[[str, str, Tree, Recorded], None]


def _read_jopt(who: str, path: str) -> Tree:
    return load(path)


def _write_jopt(who: str, path: str, tree: Tree, transform: Recorded) -> None:
    leaves = flatten(who, tree)
    files.replace(who, path, lambda file: wire.write(who, file, leaves, transform))


def _read_flax(who: str, path: str) -> Tree:
    from flax import serialization

    with files.reading(who, path) as file:
        data = file.read()
    try:
        return serialization.msgpack_restore(data)
    except Exception as error:  # msgpack and flax raise a dozen kinds, all meaning the same
        raise CheckpointError(who, "this is no msgpack of flax", found=str(error)) from error


def _write_flax(who: str, path: str, tree: Tree, transform: Recorded) -> None:
    from flax import serialization

    refuse(
        who,
        "flax's msgpack cannot hold these leaves",
        tree,
        lambda x: "an int of more than 64 bits" if type(x) is int and _long(x) else None,
    )
    data = serialization.msgpack_serialize(tree)

    def put(file: BinaryIO) -> None:
        file.write(data)

    files.replace(who, path, put)


def _read_safetensors(who: str, path: str) -> Tree:
    from jopt.interop import safetensors

    return safetensors.load(path)


def _write_safetensors(who: str, path: str, tree: Tree, transform: Recorded) -> None:
    from jopt.interop import safetensors

    safetensors.save(path, tree)


def _read_orbax(who: str, path: str) -> Tree:
    from jopt.cli import orbax_folder

    return orbax_folder.read(who, path)


def _write_orbax(who: str, path: str, tree: Tree, transform: Recorded) -> None:
    from jopt.cli import orbax_folder

    orbax_folder.write(who, path, tree)


def _read_torch(who: str, path: str) -> Tree:
    from jopt.cli import torch_file

    return torch_file.read(who, path)


def _write_torch(who: str, path: str, tree: Tree, transform: Recorded) -> None:
    from jopt.cli import torch_file

    torch_file.write(who, path, tree)


FORMATS = {
    f.name: f
    for f in (
        Format("jopt", (".jopt",), _read_jopt, _write_jopt),
        Format("flax", (".msgpack", ".flax"), _read_flax, _write_flax),
        Format("safetensors", (".safetensors",), _read_safetensors, _write_safetensors),
        Format("torch", (".pt", ".pth"), _read_torch, _write_torch),
        Format("orbax", (".orbax", ""), _read_orbax, _write_orbax),
    )
}


def format_of(who: str, path: str, *, exists: bool, named: str | None = None) -> Format:
    """The format that is named; else what the file is, if it exists, and what it is called."""
    if named is not None:
        return FORMATS[named]
    if exists and os.path.isdir(path):
        from jopt.interop.torchfiles.files import is_torch_folder

        return FORMATS["torch" if is_torch_folder(Path(path)) else "orbax"]
    if exists:
        with files.reading(who, path) as file:
            if (content := _content(file)) is not None:
                return FORMATS[content]
    suffix = Path(path).suffix
    for found in FORMATS.values():
        if suffix and suffix in found.suffixes:
            return found
    raise CheckpointError(
        who,
        f"{path} does not say its format",
        expected=", ".join(f"{s} ({f.name})" for f in FORMATS.values() for s in f.suffixes if s),
        found=suffix or "no suffix",
        fix=f"Name it with --{'from' if exists else 'to'}.",
    )


def _content(file: BinaryIO) -> str | None:
    """The format that the first bytes of a file tell, whatever it is called."""
    from jopt.interop.torchfiles.files import is_torch_file

    start = file.read(max(len(wire.HEAD), 16))
    if start.startswith(wire.HEAD):
        return "jopt"
    if is_torch_file(file):
        return "torch"
    # The length of a header in JSON, then the header.
    length, rest = int.from_bytes(start[:8], "little"), file.seek(0, os.SEEK_END) - 8
    if 2 <= length <= rest and start[8:9] == b"{":
        return "safetensors"
    # A map in msgpack, and a text for its first key.
    head = 1 if start[:1] and 0x80 <= start[0] <= 0x8F else {b"\xde": 3, b"\xdf": 5}.get(start[:1])
    key = start[head] if head is not None and len(start) > head else 0
    return "flax" if 0xA0 <= key <= 0xBF or key in (0xD9, 0xDA, 0xDB) else None


def refuse(who: str, problem: str, tree: Tree, why: Callable[[Any], str | None]) -> None:
    """Raise one error that lists every leaf that `why` gives a reason against."""
    bad = {shown(p) or "(the only leaf)": why(x) for p, x in sorted(flatten(who, tree).items())}
    lines = [f"{path}: {reason}" for path, reason in bad.items() if reason]
    if lines:
        raise CheckpointError(who, join(problem, lines))


def _long(x: int) -> bool:
    return not -(2**63) <= x < 2**64
