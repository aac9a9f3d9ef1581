"""A tree as bytes: one msgpack map in flax's conventions, and back.

The file is `{"jopt": manifest, "tree": tree}`, every map sorted by key. The manifest fixes
all bytes of the tree but the arrays' numbers, so a reader parses nothing there: it compares
what it knows, reads the numbers between, and checks their sums. Both directions walk the same
`pieces`, one array at a time; of an array they see to `STEP` bytes at a time.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, cast

import msgpack
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint import memory
from jopt.checkpoint.leaves import DTYPES, join, kinds_of
from jopt.checkpoint.manifest import (
    CHUNKED,
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
from jopt.checkpoint.migrations import migrate
from jopt.checkpoint.pieces import Payload, pieces
from jopt.core.tree import Path, pointer, shown

HEAD, MIDDLE = b"\x82" + pack("jopt"), pack("tree")

CHUNK = 2**30
"""Larger arrays are cut, as flax does: msgpack cannot hold 4 GiB in one piece."""

STEP = 2**24
"""So many bytes are moved and then summed: few enough for the processor to have them at hand
still, and enough for the system to keep the file in large pages, which is several times faster
where memory is scarce."""

Fetch = Callable[[Path], memory.Host]
Room = Callable[[Path, ArrayEntry, int, int], memoryview]


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
    data, crc = memoryview(b""), 0
    for piece in pieces(entries, CHUNK):
        if not isinstance(piece, Payload):
            file.write(piece[1])
            continue
        if piece.start == 0:
            data, crc = memory.bytes_of(fetch(piece.path)), 0
        for at, size in _steps(piece, STEP):
            part = data[at : at + size]
            file.write(part)
            crc = zlib.crc32(part, crc)
            del part
        if piece.start + piece.size == len(data):
            old = cast(ArrayEntry, entries[piece.path])
            entries[piece.path] = ArrayEntry(old.shape, old.dtype, f"{crc:08x}")
            data = memoryview(b"")  # this array may go before the next one comes
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
    return migrate(unpack_manifest(who, header, file.read(length)))


def read_leaves(who: str, file: BinaryIO, manifest: Manifest) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, verified; `file` stands where `read_manifest` left it."""
    arrays: list[memory.Host] = []  # the one that is being read

    def room(path: Path, entry: ArrayEntry, start: int, size: int) -> memoryview:
        if start == 0:
            arrays.append(_empty(who, path, entry))
        return memory.bytes_of(arrays[0])[start : start + size]

    for path, entry, last in _read(who, file, manifest, STEP, room):
        if isinstance(entry, ValueEntry):
            yield path, entry.value
        elif last:
            yield path, arrays.pop()  # and no reference stays here while the next is read


def scan(
    who: str,
    file: BinaryIO,
    manifest: Manifest,
    size: int = 2**24,
    wanted: Callable[[Path], bool] | None = None,
) -> Iterator[tuple[Path, Entry, Any]]:
    """Every leaf in memory of a fixed size, whatever its own.

    Gives the path, the entry and a part of the numbers: a one-dimensional array of at most
    `size` bytes, or the Python value. The parts of a leaf follow each other; before the last
    one its checksum is compared. `file` stands where `read_manifest` left it. Arrays that are
    not `wanted` are passed over, unread and unchecked.
    """
    parts: list[memory.Host] = []

    def room(path: Path, entry: ArrayEntry, start: int, size: int) -> memoryview:
        dtype = DTYPES[entry.dtype]
        parts.append(np.empty(size // dtype.itemsize, dtype))
        return memory.bytes_of(parts[0])

    for path, entry, _ in _read(who, file, manifest, size, room, wanted):
        yield path, entry, entry.value if isinstance(entry, ValueEntry) else parts.pop()


def _read(
    who: str,
    file: BinaryIO,
    manifest: Manifest,
    most: int,
    room: Room,
    wanted: Callable[[Path], bool] | None = None,
) -> Iterator[tuple[Path, Entry, bool]]:
    """Read the numbers to where `room` says, at most so many bytes at a time.

    Says after each time which leaf it was, and whether it is whole and verified.
    """
    _check_size(who, file, manifest)
    _expect(who, file, MIDDLE, ())
    crc = 0
    for piece in pieces(manifest.in_file, CHUNK):
        if not isinstance(piece, Payload):
            path, known = piece
            _expect(who, file, known, path)
            value, name = manifest.in_file.get(path), manifest.name_of(path)
            if isinstance(value, ValueEntry) and name is not None:
                yield name, value, True
            continue
        path, entry = piece.path, cast(ArrayEntry, manifest.in_file[piece.path])
        name = manifest.name_of(path)
        if name is not None and wanted is not None and not wanted(name):
            file.seek(piece.size, io.SEEK_CUR)
            continue
        item = DTYPES[entry.dtype].itemsize
        whole = math.prod(entry.shape) * item
        for at, size in _steps(piece, max(item, most // item * item)):
            # What a migration has dropped has no name, and is verified all the same.
            part = memoryview(bytearray(size)) if name is None else room(path, entry, at, size)
            _fill(file, part)
            crc = zlib.crc32(part, crc if at else 0)
            del part
            last = at + size == whole
            if last and f"{crc:08x}" != entry.crc32:
                what = "the bytes of an array do not match their checksum"
                facts = {"expected": entry.crc32, "found": f"{crc:08x}"}
                raise damaged(who, what, path=shown(path), **facts)
            if name is not None:
                yield name, entry, last


def _steps(piece: Payload, most: int) -> Iterator[tuple[int, int]]:
    """Where the steps through a piece begin in the array, and how long they are: one at least."""
    end = piece.start + piece.size
    for at in range(piece.start, max(end, piece.start + 1), most):
        yield at, min(most, end - at)


def _fill(file: BinaryIO, part: memoryview) -> None:
    done = 0
    while done < len(part):
        read: int = file.readinto(part[done:])  # type: ignore[attr-defined]
        if not read:  # cut off meanwhile: the sum will not be right
            return
        done += read


def _check_size(who: str, file: BinaryIO, manifest: Manifest) -> None:
    # Before any array is made: a file that lies about its sizes cannot ask for memory.
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    total = here + len(MIDDLE)
    for piece in pieces(manifest.in_file, CHUNK):
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


def _empty(who: str, path: Path, entry: ArrayEntry) -> memory.Host:
    try:
        return memory.empty(entry.shape, DTYPES[entry.dtype])
    except (ValueError, OverflowError) as error:  # more axes or longer ones than numpy can hold
        raise damaged(who, f"no array has such a shape ({error})", path=shown(path)) from None


def _unpackable(who: str, entries: Mapping[Path, Entry], error: Exception) -> CheckpointError:
    bad = []
    for path, entry in entries.items():
        try:
            pack([pointer(path), entry.plain()])
        except (OverflowError, UnicodeEncodeError) as own:
            bad.append(f"{shown(path)!r}: {own}")
    return CheckpointError(who, join("msgpack cannot hold these leaves", bad or [str(error)]))
