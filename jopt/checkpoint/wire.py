"""A tree as bytes: one msgpack map in flax's conventions, and back.

The file is `{"jopt": manifest, "tree": tree}`, every map sorted by key. The manifest fixes
all bytes of the tree but the arrays' numbers, so a reader parses nothing there: it compares
what it knows, reads the numbers between, and checks their sums. Both directions walk the same
`_pieces`, one array at a time.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import msgpack
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint.leaves import DTYPES, join, kinds_of, pointer, shown
from jopt.checkpoint.manifest import (
    MAX_LIST,
    ArrayEntry,
    Entry,
    Manifest,
    ValueEntry,
    damaged,
    not_ours,
    pack,
    unpack_extension,
    unpack_manifest,
)
from jopt.core.tree import Path, nest

HEAD, MIDDLE = b"\x82" + pack("jopt"), pack("tree")

NDARRAY = 1
"""flax's msgpack extension type for an array: (shape, name of the dtype, bytes)."""

CHUNK = 2**30
"""Larger arrays are cut, as flax does: msgpack cannot hold 4 GiB in one piece."""

CHUNKED = "__msgpack_chunked_array__"

Host = np.ndarray[Any, Any]
Fetch = Callable[[Path], Host]


@dataclass(frozen=True)
class Payload:
    """Where `size` bytes of the array at `path` stand, from its byte `start` on."""

    path: Path
    start: int
    size: int


Piece = tuple[Path, bytes] | Payload


def write(
    who: str, file: BinaryIO, leaves: Mapping[Path, Any], fetch: Fetch, transform: Any
) -> None:
    """Write a checkpoint of these leaves; `fetch` gives the array at a path, once each."""
    kinds = kinds_of(who, leaves)
    entries: dict[Path, Entry] = {}
    for path, kind in kinds.items():
        if CHUNKED in path:
            problem = "flax's format keeps this key for itself"
            raise CheckpointError(who, problem, path=shown(path), fix="Rename it.")
        blank = None if kind.shape is None else ArrayEntry(kind.shape, kind.dtype, "0" * 8)
        entries[path] = blank or ValueEntry(leaves[path])
    try:
        header = Manifest(entries, transform).pack()
    except (OverflowError, UnicodeEncodeError) as error:
        raise _unpackable(who, entries, error) from None
    # The sums are known once the arrays have passed by. They have a fixed width, so the
    # manifest is written twice in place of reading every array twice.
    start = file.tell()
    file.write(HEAD + header + MIDDLE)
    data = memoryview(b"")
    for piece in _pieces(entries):
        if not isinstance(piece, Payload):
            file.write(piece[1])
            continue
        if piece.start == 0:
            data = _bytes_of(fetch(piece.path))
            old = cast(ArrayEntry, entries[piece.path])
            entries[piece.path] = ArrayEntry(old.shape, old.dtype, f"{zlib.crc32(data):08x}")
        file.write(data[piece.start : piece.start + piece.size])
    end = file.tell()
    file.seek(start)
    file.write(HEAD + Manifest(entries, transform).pack())
    file.seek(end)


def read_manifest(who: str, file: BinaryIO) -> Manifest:
    """The manifest of the checkpoint in `file`; the file then stands before the tree."""
    head = file.read(len(HEAD))
    if head != HEAD:
        if HEAD.startswith(head):
            raise damaged(who, f"it ends after {len(head)} bytes")
        raise not_ours(who)
    size = file.seek(0, io.SEEK_END) - len(HEAD)
    file.seek(len(HEAD))
    unpacker = msgpack.Unpacker(
        file, read_size=2**16, max_buffer_size=min(max(size, 2**16), 2**31 - 1),
        strict_map_key=True, max_array_len=MAX_LIST, ext_hook=unpack_extension,
    )  # fmt: skip
    try:
        header = unpacker.unpack()
    except msgpack.OutOfData:
        raise damaged(who, "it ends within the manifest") from None
    except Exception as error:  # msgpack raises a dozen kinds, all meaning "no msgpack"
        raise damaged(who, f"the manifest cannot be decoded ({error})") from None
    length = unpacker.tell()
    file.seek(len(HEAD))
    return unpack_manifest(who, header, file.read(length))


def read_leaves(who: str, file: BinaryIO, manifest: Manifest) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, verified; `file` stands where `read_manifest` left it."""
    _check_size(who, file, manifest)
    _expect(who, file, MIDDLE, ())
    entries = manifest.leaves
    array = np.empty(())
    for piece in _pieces(entries):
        if not isinstance(piece, Payload):
            path, known = piece
            _expect(who, file, known, path)
            entry = entries.get(path)
            if isinstance(entry, ValueEntry):
                yield path, entry.value
            continue
        path, entry = piece.path, cast(ArrayEntry, entries[piece.path])
        if piece.start == 0:
            array = _empty(who, path, entry)
        data = _bytes_of(array)
        file.readinto(data[piece.start : piece.start + piece.size])  # type: ignore[attr-defined]
        if piece.start + piece.size < len(data):
            continue
        found = f"{zlib.crc32(data):08x}"
        if found != entry.crc32:
            what = "the bytes of an array do not match their checksum"
            facts = {"expected": entry.crc32, "found": found}
            raise damaged(who, what, path=shown(path), **facts)
        yield path, array


def _pieces(entries: Mapping[Path, Entry]) -> Iterator[Piece]:
    """The bytes of the tree: what the entries determine, with its path, and where numbers go."""
    tree = nest(entries, (_At(path, entry) for path, entry in entries.items()))
    return _walk(tree, ())


@dataclass(frozen=True)
class _At:
    path: Path
    entry: Entry


def _walk(node: Any, path: Path) -> Iterator[Piece]:
    if isinstance(node, _At):
        yield from _leaf(node.path, node.entry)
        return
    yield path, _packer.pack_map_header(len(node))
    for key in sorted(node):
        yield path, pack(key)
        yield from _walk(node[key], (*path, key))


def _leaf(path: Path, entry: Entry) -> Iterator[Piece]:
    if isinstance(entry, ValueEntry):
        yield path, pack(entry.value)
        return
    item = DTYPES[entry.dtype].itemsize
    size = math.prod(entry.shape) * item
    if size <= CHUNK:
        yield from _array(path, entry.dtype, entry.shape, 0, size)
        return
    step = max(1, CHUNK // item) * item
    starts = range(0, size, step)
    shape = {str(i): n for i, n in enumerate(entry.shape)}
    yield path, b"\x83" + pack(CHUNKED) + pack(True) + pack("shape")
    yield (
        path,
        _packer.pack_map_header(len(shape)) + b"".join(pack(k) + pack(n) for k, n in shape.items()),
    )
    yield path, pack("chunks") + _packer.pack_map_header(len(starts))
    for i, start in enumerate(starts):
        yield path, pack(str(i))
        count = min(step, size - start)
        yield from _array(path, entry.dtype, (count // item,), start, count)


def _array(
    path: Path, dtype: str, shape: tuple[int, ...], start: int, size: int
) -> Iterator[Piece]:
    inner = b"\x93" + pack(list(shape)) + pack(dtype) + _sized((0xC4, 0xC5, 0xC6), size)
    yield path, _extension_header(len(inner) + size) + inner
    yield Payload(path, start, size)


def _extension_header(size: int) -> bytes:
    # msgpack packs an extension whole only; its header alone spares a copy of the array.
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(size)
    head = bytes([fixed]) if fixed else _sized((0xC7, 0xC8, 0xC9), size)
    return head + bytes([NDARRAY])


def _sized(codes: tuple[int, int, int], size: int) -> bytes:
    for code, form, limit in zip(codes, (">BB", ">BH", ">BI"), (2**8, 2**16, 2**32), strict=True):
        if size < limit:
            return struct.pack(form, code, size)
    raise AssertionError("arrays are cut before they grow so large")


def _check_size(who: str, file: BinaryIO, manifest: Manifest) -> None:
    # Before any array is made: a file that lies about its sizes cannot ask for memory.
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    total = here + len(MIDDLE)
    for piece in _pieces(manifest.leaves):
        path, size = (
            (piece[0], len(piece[1])) if isinstance(piece, tuple) else (piece.path, piece.size)
        )
        total += size
        if total > end:
            raise damaged(who, f"it ends after {end} bytes", path=shown(path) if path else None)
    if total != end:
        raise damaged(who, f"{end - total} bytes too many stand after its end")


def _expect(who: str, file: BinaryIO, known: bytes, path: Path) -> None:
    here = file.tell()
    if file.read(len(known)) != known:
        what = f"the bytes from {here} on are not what the manifest says"
        raise damaged(who, what, path=shown(path) if path else None)


def _empty(who: str, path: Path, entry: ArrayEntry) -> Host:
    try:
        return np.empty(entry.shape, DTYPES[entry.dtype])
    except (ValueError, OverflowError) as error:  # more axes or longer ones than numpy can hold
        raise damaged(who, f"no array has such a shape ({error})", path=shown(path)) from None


def _bytes_of(array: Host) -> memoryview:
    # ml_dtypes have no buffer protocol of their own, hence the view.
    return array.reshape(-1).view(np.uint8).data


def _unpackable(who: str, entries: Mapping[Path, Entry], error: Exception) -> CheckpointError:
    bad = []
    for path, entry in entries.items():
        try:
            pack([pointer(path), entry.plain()])
        except (OverflowError, UnicodeEncodeError) as own:
            bad.append(f"{shown(path)!r}: {own}")
    return CheckpointError(who, join("msgpack cannot hold these leaves", bad or [str(error)]))


_packer = msgpack.Packer()
