"""What stands in a safetensors file, and its tensors, whole or in pieces."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from jopt.checkpoint import memory
from jopt.checkpoint.leaves import DTYPES, Kind
from jopt.checkpoint.manifest import ArrayEntry, Manifest, ValueEntry, damaged
from jopt.core.paths import Path, shown
from jopt.interop.safetensors.format import Tensor, paths_of, read_header, read_manifest


@dataclass(frozen=True)
class Contents:
    """What the header tells.

    **Attributes:** `manifest`, `None` in a file of another origin; `kinds` of all leaves;
    `values`, those that are no arrays; `tensors`, the others by their path in the file; `start`,
    where the first of them begins.
    """

    manifest: Manifest | None
    kinds: Mapping[Path, Kind]
    values: Mapping[Path, Any]
    tensors: Mapping[Path, Tensor]
    start: int


def contents(who: str, path: str | os.PathLike[str], file: BinaryIO) -> Contents:
    """The header of a file, checked."""
    tensors, metadata, start = read_header(who, path, file)
    manifest = read_manifest(who, tensors, metadata)
    if manifest is None:
        named = paths_of(who, tensors)
        found = {p: tensors[name] for p, name in named.items()}
        return Contents(None, {p: t.kind for p, t in found.items()}, {}, found, start)
    kinds = {p: entry.kind for p, entry in manifest.leaves.items()}
    values = {p: e.value for p, e in manifest.leaves.items() if isinstance(e, ValueEntry)}
    found = {p: tensors[shown(p)] for p in manifest.in_file if shown(p) in tensors}
    return Contents(manifest, kinds, values, found, start)


def read(who: str, file: BinaryIO, found: Contents) -> Iterator[tuple[Path, Any]]:
    """Every leaf, the arrays in the order of the file, verified if there are checksums."""
    yield from found.values.items()
    yield from ((path, value.copy()) for path, value in _added(found).items())
    for path, tensor in sorted(found.tensors.items(), key=lambda item: item[1].begin):
        array, data = memory.filled(tensor.kind.shape or (), DTYPES[tensor.kind.dtype])
        file.seek(found.start + tensor.begin)
        crc = _fill(who, file, path, data, 0)
        _compare(who, found, path, crc)
        to = _name_of(found, path)
        if to is not None:
            yield to, array
        del array, data  # they may go before the next comes


def scan(
    who: str,
    file: BinaryIO,
    found: Contents,
    size: int,
    wanted: Callable[[Path], bool] | None = None,
) -> Iterator[tuple[Path, memory.Host]]:
    """The arrays in the order of their names, in pieces of at most so many bytes.

    Before the last piece of one its checksum is compared, if there is one.
    """
    named = {_name_of(found, path): path for path in found.tensors}
    added = _added(found)
    named |= {name: name for name in added}
    dropped = [path for path in found.tensors if _name_of(found, path) is None]
    for name, path in [
        *sorted((n, p) for n, p in named.items() if n is not None),
        *((None, path) for path in dropped if wanted is None),
    ]:
        if name is not None and wanted is not None and not wanted(name):
            continue
        if name is not None and name in added:
            yield name, added[name].reshape(-1)
            continue
        tensor = found.tensors[path]
        dtype = DTYPES[tensor.kind.dtype]
        left, crc = tensor.size // dtype.itemsize, 0
        file.seek(found.start + tensor.begin)
        while True:
            piece, data = memory.filled((min(left, max(1, size // dtype.itemsize)),), dtype)
            crc = _fill(who, file, path, data, crc)
            left -= piece.size
            if not left:
                _compare(who, found, path, crc)
            if name is not None:
                yield name, piece
            if not left:
                break


def _added(found: Contents) -> Mapping[Path, memory.Host]:
    # What a migration adds is in no file.
    return {} if found.manifest is None else found.manifest.added


def _name_of(found: Contents, path: Path) -> Path | None:
    return path if found.manifest is None else found.manifest.name_of(path)


def _fill(who: str, file: BinaryIO, path: Path, data: bytearray | memoryview, crc: int) -> int:
    if file.readinto(data) != len(data):  # type: ignore[attr-defined]
        raise damaged(who, "it became shorter while it was read", path=shown(path))
    return zlib.crc32(data, crc)


def _compare(who: str, found: Contents, path: Path, crc: int) -> None:
    entry = None if found.manifest is None else found.manifest.in_file[path]
    if isinstance(entry, ArrayEntry) and entry.crc32 != f"{crc:08x}":
        what = "the bytes of an array do not match their checksum"
        facts = {"expected": entry.crc32, "found": f"{crc:08x}"}
        raise damaged(who, what, path=shown(path), **facts)
