"""The header of a safetensors file, with jopt's manifest in its metadata, and back."""

from __future__ import annotations

import base64
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

from jopt.base import CheckpointError, ConfigError
from jopt.checkpoint.decoding import manifest_in
from jopt.checkpoint.leaves import DTYPES, Kind, join
from jopt.checkpoint.manifest import FORMAT, ArrayEntry, Entry, Manifest, damaged
from jopt.checkpoint.migrations import migrate
from jopt.core.paths import MAX_DEPTH, Path, from_pointer, shown

NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "complex64": "C64",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
"""safetensors' name of each dtype that both have, in the order of the library."""

_DTYPES = {code: name for name, code in NAMES.items()}
ORDER = {name: -i for i, name in enumerate(NAMES)}
"""Tensors stand in a file with the widest dtypes first, so that all are aligned."""

METADATA = "__metadata__"
_LONGEST = 100_000_000
"""safetensors reads no longer header."""


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: what it is, and where its bytes begin, counted from the first one."""

    kind: Kind
    begin: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.kind.shape or ()) * DTYPES[self.kind.dtype].itemsize


def pack(who: str, arrays: list[Path], entries: Mapping[Path, Entry], transform: Any) -> bytes:
    """The header of a file with these arrays in this order, with the manifest of all entries."""
    try:
        manifest = Manifest(entries, transform).pack()
    except (OverflowError, UnicodeEncodeError) as error:
        raise CheckpointError(who, f"a leaf has no place in a file ({error})") from None
    text = base64.b64encode(manifest).decode()
    header: dict[str, Any] = {METADATA: {"format": FORMAT, "jopt": text}}
    at = 0
    for path in arrays:
        tensor = Tensor(entries[path].kind, at)
        at += tensor.size
        header[shown(path)] = {
            "dtype": NAMES[tensor.kind.dtype],
            "shape": list(tensor.kind.shape or ()),
            "data_offsets": [tensor.begin, at],
        }
    data = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    data += b" " * (-len(data) % 8)
    if len(data) > _LONGEST:
        raise CheckpointError(who, "the header is longer than safetensors reads", found=len(data))
    return struct.pack("<Q", len(data)) + data


def read_header(
    who: str, path: str | os.PathLike[str], file: BinaryIO
) -> tuple[dict[str, Tensor], dict[str, str], int]:
    """The tensors by name, the metadata, and where the first tensor begins."""
    try:
        import safetensors
    except ImportError as error:
        fix = "pip install 'jopt[safetensors]'"
        raise ConfigError(who, "safetensors is not installed", fix=fix) from error
    try:
        # The library checks all that the format asks for: no overlap, no hole, true sizes.
        with safetensors.safe_open(os.fspath(path), "np"):
            pass
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise damaged(who, f"safetensors says: {error}") from None
    (length,) = struct.unpack("<Q", file.read(8))
    try:
        header = json.loads(file.read(length), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise damaged(who, f"the header cannot be decoded ({error})") from None
    metadata = header.pop(METADATA, None) or {}
    unknown = [f"{name}: {t['dtype']}" for name, t in header.items() if t["dtype"] not in _DTYPES]
    if unknown:
        raise CheckpointError(who, join("NumPy has no such dtypes", unknown))
    tensors = {
        name: Tensor(Kind(_DTYPES[t["dtype"]], tuple(t["shape"])), t["data_offsets"][0])
        for name, t in header.items()
    }
    return tensors, metadata, 8 + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def read_manifest(
    who: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Manifest | None:
    """What `save` wrote beside the tensors, or `None` in a file of another origin."""
    marks = metadata.get("format") == FORMAT, "jopt" in metadata
    if not any(marks):
        return None
    if not all(marks):  # one flipped bit must not make it a file without checksums
        raise damaged(who, "half of jopt's marks are gone")
    manifest = manifest_in(who, metadata["jopt"])
    said = {shown(p): e.kind for p, e in manifest.in_file.items() if isinstance(e, ArrayEntry)}
    if said != {name: tensor.kind for name, tensor in tensors.items()}:
        raise damaged(who, "the manifest speaks of other tensors")
    return migrate(manifest)


def paths_of(who: str, names: Iterable[str]) -> dict[Path, str]:
    """Where the tensors of another origin go in a nested dict."""
    paths: dict[Path, str] = {}
    for name in names:
        try:
            path = from_pointer("/" + name)
        except ValueError:  # a ~ that jopt would have written ~0
            path = tuple(name.split("/"))
        if path in paths:
            raise CheckpointError(who, "two tensors have one name", found=f"{paths[path]}, {name}")
        paths[path] = name
    for path in paths:
        if len(path) > MAX_DEPTH:
            problem = f"a name has more than {MAX_DEPTH} levels"
            raise CheckpointError(who, problem, path=shown(path))
    for outer, inner in pairwise(sorted(paths)):
        if inner[: len(outer)] == outer:
            problem = "these names make no tree: a tensor stands within another"
            raise CheckpointError(who, problem, path=shown(inner))
    return paths
