"""A tree as bytes: one msgpack map in flax's conventions, and back.

The file is `{"jopt": manifest, "tree": tree}`, every map sorted by key. The manifest fixes
all bytes of the tree but the arrays' numbers, so a reader parses nothing there: it compares
what it knows, reads the numbers between, and checks their sums. Both directions walk the same
`pieces`, one array at a time; of an array they see to `STEP` bytes at a time.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import msgpack
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint import memory
from jopt.checkpoint.decoding import unpack_manifest, unpacker
from jopt.checkpoint.fetching import fetched
from jopt.checkpoint.leaves import DTYPES, join, kinds_of
from jopt.checkpoint.manifest import (
    CHUNKED,
    VERSION,
    ArrayEntry,
    Entry,
    Manifest,
    ValueEntry,
    blank,
    damaged,
    not_ours,
    ordered,
    pack,
)
from jopt.checkpoint.migrations import migrate, migrated
from jopt.checkpoint.pieces import Piece, pieces
from jopt.core.paths import Path, pointer, shown

HEAD, MIDDLE = b"\x82" + pack("jopt"), pack("tree")

CHUNK = 2**30
"""Larger arrays are cut, as flax does: msgpack cannot hold 4 GiB in one piece."""

STEP = 2**24
"""So many bytes are moved and then summed: few enough for the processor to have them at hand
still, and enough for the system to keep the file in large pages, which is several times faster
where memory is scarce."""

FEW = 2**12
"""So few bytes are copied sooner than looked at."""

Room = Callable[[Path, ArrayEntry, int, int], bytearray | memoryview]
Read = tuple[Path, Entry, bool | memory.Host]
"""A leaf; whether all of it is where there is room for it now, or the array, if it is small."""


def write(who: str, file: BinaryIO, leaves: Mapping[Path, Any], transform: Any) -> None:
    """Write a checkpoint of these leaves."""
    kinds = kinds_of(who, leaves)
    taken = next((path for path in kinds if CHUNKED in path), None)
    if taken is not None:
        problem = "flax's format keeps this key for itself"
        raise CheckpointError(who, problem, path=shown(taken), fix="Rename it.")
    entries = blank(leaves, kinds)
    order = ordered(entries)
    try:
        header = Manifest(entries, transform).pack(order)
    except (OverflowError, UnicodeEncodeError) as error:
        raise _unpackable(who, entries, error) from None
    # The sums are known once the arrays have passed by. They have a fixed width, so the
    # manifest is written twice in place of reading every array twice.
    start = file.tell()
    file.write(HEAD + header + MIDDLE)
    arrays = fetched(who, ((p, leaves[p]) for p in sorted(kinds) if kinds[p].shape is not None))
    data, crc = memoryview(b""), 0
    for piece in pieces(entries, CHUNK):
        file.write(piece.known)
        entry = piece.entry
        if isinstance(entry, ValueEntry):
            continue
        if piece.size <= FEW and piece.is_whole:
            few = next(arrays).tobytes()  # a copy costs less than a view
            file.write(few)
            crc = zlib.crc32(few)
        else:
            if piece.start == 0:
                data, crc = memory.bytes_of(next(arrays)), 0
            for at, size in piece.steps(STEP):
                part = data[at : at + size]
                file.write(part)
                crc = zlib.crc32(part, crc)
                del part
        if piece.last:
            entries[piece.path] = ArrayEntry(entry.shape, entry.dtype, f"{crc:08x}")
            data = memoryview(b"")  # this array may go before the next one comes
    end = file.tell()
    file.seek(start)
    file.write(HEAD + Manifest(entries, transform).pack(order))
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
    source = unpacker(file, size)
    try:
        source.skip()
    except msgpack.OutOfData:
        raise damaged(who, "it ends within the manifest") from None
    except Exception as error:  # msgpack raises a dozen kinds, all meaning "no msgpack"
        raise damaged(who, f"the manifest cannot be decoded ({error})") from None
    length = source.tell()
    del source  # its buffer
    file.seek(len(HEAD))
    return migrate(unpack_manifest(who, file.read(length)))


def read_leaves(who: str, file: BinaryIO, manifest: Manifest) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, verified; `file` stands where `read_manifest` left it."""
    held: list[tuple[memory.Host, bytearray | memoryview]] = []  # the one that is being read

    def room(path: Path, entry: ArrayEntry, start: int, size: int) -> bytearray | memoryview:
        if start == 0:
            try:
                held.append(memory.filled(entry.shape, DTYPES[entry.dtype]))
            except (ValueError, OverflowError) as error:  # longer axes than numpy can hold
                raise damaged(who, f"no such array ({error})", path=shown(path)) from None
        data = held[0][1]
        return data if size == len(data) else memoryview(data)[start : start + size]

    added = manifest.added
    for path, entry, whole in _read(who, file, manifest, STEP, room):
        if added and path in added:
            yield path, added[path].copy()
        elif isinstance(entry, ValueEntry):
            yield path, entry.value
        elif whole is not False:
            array = held.pop()[0] if whole is True else whole
            if manifest.version < VERSION:
                array = migrated(who, manifest, path, array)
            yield path, array
            del array  # no reference stays here while the next is read


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

    def room(path: Path, entry: ArrayEntry, start: int, size: int) -> bytearray | memoryview:
        dtype = DTYPES[entry.dtype]
        array, data = memory.filled((size // dtype.itemsize,), dtype)
        parts.append(array)
        return data

    for path, entry, whole in _read(who, file, manifest, size, room, wanted):
        if path in manifest.added:
            yield path, entry, manifest.added[path].reshape(-1)
        elif isinstance(entry, ValueEntry):
            yield path, entry, entry.value
        else:
            part = parts.pop() if isinstance(whole, bool) else whole.reshape(-1)
            yield path, entry, migrated(who, manifest, path, part)


def _read(
    who: str,
    file: BinaryIO,
    manifest: Manifest,
    most: int,
    room: Room,
    wanted: Callable[[Path], bool] | None = None,
) -> Iterator[Read]:
    """Read the numbers to where `room` says, at most so many bytes at a time.

    Says after each time which leaf it was, and whether it is whole and verified. What a migration
    has added comes where its path stands among the others.
    """
    added = sorted(path for path in manifest.added if wanted is None or wanted(path))
    in_file = _read_file(who, file, manifest, most, room, wanted)
    if not added:
        return in_file
    return _merged(in_file, [(path, manifest.leaves[path], True) for path in added])


def _merged(some: Iterable[Read], others: list[Read]) -> Iterator[Read]:
    for found in some:
        while others and others[0][0] < found[0]:
            yield others.pop(0)
        yield found
    yield from others


def _read_file(
    who: str,
    file: BinaryIO,
    manifest: Manifest,
    most: int,
    room: Room,
    wanted: Callable[[Path], bool] | None = None,
) -> Iterator[Read]:
    if (found := file.read(len(MIDDLE))) != MIDDLE:
        raise damaged(who, _unlike(file, MIDDLE, found)[1])
    names, crc = manifest.names, 0
    few = min(most, FEW) if names is None and wanted is None else -1
    for piece in _sized(who, file, manifest.in_file):
        path, entry, known = piece.path, piece.entry, piece.known
        if piece.size <= few and isinstance(entry, ArrayEntry) and piece.is_whole:
            # Most are small: read in one go. If anything is wrong, the long way says what.
            found = file.read(len(known) + piece.size)
            data = bytearray(found[len(known) :])
            if found.startswith(known) and f"{zlib.crc32(data):08x}" == entry.crc32:
                yield path, entry, np.ndarray(entry.shape, DTYPES[entry.dtype], data)
                continue
            file.seek(-len(found), io.SEEK_CUR)
        if (found := file.read(len(known))) != known:
            at, what = _unlike(file, known, found)
            raise damaged(who, what, path=shown(piece.place_of(at)) or None)
        name = path if names is None else names.get(path)
        if isinstance(entry, ValueEntry):
            if name is not None:
                yield name, entry, True
            continue
        if name is not None and wanted is not None and not wanted(name):
            file.seek(piece.size, io.SEEK_CUR)
            continue
        for at, size in piece.steps(most):
            # What a migration has dropped has no name, and is verified all the same.
            part = bytearray(size) if name is None else room(path, entry, at, size)
            memory.fill(part, file)
            crc = zlib.crc32(part, crc if at else 0)
            del part
            last = piece.last and at + size == piece.start + piece.size
            if last and f"{crc:08x}" != entry.crc32:
                what, sum_ = "the bytes of an array do not match their checksum", f"{crc:08x}"
                raise damaged(who, what, path=shown(path), expected=entry.crc32, found=sum_)
            if name is not None:
                yield name, entry, last


def _sized(who: str, file: BinaryIO, stored: Mapping[Path, Entry]) -> Iterator[Piece]:
    """The pieces, each while the file has room for it: one that lies cannot ask for memory."""
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    total = here
    for piece in pieces(stored, CHUNK):
        total += len(piece.known) + piece.size
        if total > end:
            raise damaged(who, f"it ends after {end} bytes", path=shown(piece.path) or None)
        yield piece
    if total != end:
        raise damaged(who, f"{end - total} bytes too many stand after its end")


def _unlike(file: BinaryIO, known: bytes, found: bytes) -> tuple[int, str]:
    """From which byte on they differ, and how that is told; the file stands behind them."""
    pairs = zip(known, found, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), len(found))
    here = file.tell() - len(found) + at
    return at, f"the bytes from {here} on are not what the manifest says"


def _unpackable(who: str, entries: Mapping[Path, Entry], error: Exception) -> CheckpointError:
    bad = []
    for path, entry in entries.items():
        try:
            pack([pointer(path), entry.plain()])
        except (OverflowError, UnicodeEncodeError) as own:
            bad.append(f"{shown(path)!r}: {own}")
    return CheckpointError(who, join("msgpack cannot hold these leaves", bad or [str(error)]))
