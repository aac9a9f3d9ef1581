"""The bytes of a tree in the file: what the manifest determines, and where the numbers go."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jopt.checkpoint.leaves import DTYPES
from jopt.checkpoint.manifest import CHUNKED, ArrayEntry, Entry, ValueEntry, pack, packer
from jopt.core.paths import Path

NDARRAY = 1
"""flax's msgpack extension type for an array: (shape, name of the dtype, bytes)."""


class Piece(NamedTuple):
    """Bytes that the entries determine, and the numbers that follow them.

    **Attributes:** `path` and `entry` of the leaf; `depth`: so many of its keys stand in earlier
    pieces; `known`, the bytes; `start` and `size`: which bytes of the array stand behind them;
    `last`: whether those are its last ones.
    """

    path: Path
    entry: Entry
    depth: int
    known: bytes
    start: int = 0
    size: int = 0
    last: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether these are all bytes of the leaf."""
        return self.last and not self.start

    def steps(self, most: int) -> Iterable[tuple[int, int]]:
        """Where steps through the numbers begin in the array, and how long they are.

        No step is of more than `most` bytes, and there is one at least.
        """
        start, size = self.start, self.size
        if size <= most:
            return ((start, size),)
        assert isinstance(self.entry, ArrayEntry)
        item = DTYPES[self.entry.dtype].itemsize
        most = max(item, most // item * item)
        return [(at, min(most, start + size - at)) for at in range(start, start + size, most)]

    def place_of(self, at: int) -> Path:
        """The part of the path that the known byte `at` belongs to."""
        end = _map_header(self.known) if self.path else 0
        if at < end:
            return ()
        for depth in range(self.depth, len(self.path)):
            end += len(pack(self.path[depth]))
            if at < end:
                return self.path[:depth]
            if depth + 1 < len(self.path):
                end += _map_header(self.known[end:])
                if at < end:
                    return self.path[: depth + 1]
        return self.path


def pieces(entries: Mapping[Path, Entry], chunk: int) -> Iterator[Piece]:
    """The bytes of the tree, leaf after leaf. Arrays of more than `chunk` bytes are cut."""
    # In order the paths are the tree; making the tree itself would take memory for whatever a
    # manifest claims.
    paths = sorted(entries)
    widths = iter(_widths(paths))
    heads: dict[tuple[Any, ...], tuple[bytes, int]] = {}
    above: Path | None = None
    before: Path = ()
    for path in paths:
        entry = entries[path]
        if path[:-1] == above and path:
            depth = len(path) - 1
            known = packer.pack(path[-1])
        else:
            depth = 0 if above is None else _common(before, path)
            parts = [packer.pack_map_header(next(widths))] if above is None and path else []
            for i in range(depth, len(path)):
                parts.append(packer.pack(path[i]))
                if i + 1 < len(path):
                    parts.append(packer.pack_map_header(next(widths)))
            known = b"".join(parts)
            above = path[:-1]
        before = path
        if isinstance(entry, ValueEntry):
            yield Piece(path, entry, depth, known + pack(entry.value))
            continue
        kind = entry[:2]
        if kind not in heads:
            size = math.prod(entry.shape) * DTYPES[entry.dtype].itemsize
            heads[kind] = b"" if size > chunk else _head(entry.dtype, entry.shape, size), size
        head, size = heads[kind]
        if head:
            yield Piece(path, entry, depth, known + head, 0, size)
        else:
            yield from _chunks(path, entry, depth, known, size, chunk)


def _widths(paths: Sequence[Path]) -> list[int]:
    """How many entries each container has, in the order in which they begin."""
    widths, opened = [0], [0]
    above: Path | None = None
    before: Path = ()
    for path in paths:
        if path[:-1] == above:
            widths[opened[-1]] += 1
            continue
        depth = _common(before, path)
        del opened[depth + 1 :]
        widths[opened[-1]] += 1
        for _ in range(depth + 1, len(path)):
            opened.append(len(widths))
            widths.append(1)
        before, above = path, path[:-1]
    return widths


def _common(before: Path, path: Path) -> int:
    """How many keys two paths begin with alike; one less than there are at the most."""
    depth = 0
    for a, b in zip(before[:-1], path[:-1], strict=False):
        if a != b:
            break
        depth += 1
    return depth


def _chunks(
    path: Path, entry: ArrayEntry, depth: int, known: bytes, size: int, chunk: int
) -> Iterator[Piece]:
    item = DTYPES[entry.dtype].itemsize
    step = max(1, chunk // item) * item
    starts = range(0, size, step)
    shape = {str(i): n for i, n in enumerate(entry.shape)}
    # By number, not in order of the text: flax has them so.
    known += b"\x83" + pack(CHUNKED) + pack(True) + pack("shape")
    known += packer.pack_map_header(len(shape))
    known += b"".join(pack(k) + pack(n) for k, n in shape.items())
    known += pack("chunks") + packer.pack_map_header(len(starts))
    for i, start in enumerate(starts):
        count = min(step, size - start)
        known += pack(str(i)) + _head(entry.dtype, (count // item,), count)
        yield Piece(path, entry, depth, known, start, count, start + count == size)
        depth, known = len(path), b""


def _head(dtype: str, shape: tuple[int, ...], size: int) -> bytes:
    inner = b"\x93" + pack(list(shape)) + pack(dtype) + _sized((0xC4, 0xC5, 0xC6), size)
    return _extension_header(len(inner) + size) + inner


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


def _map_header(data: bytes) -> int:
    """How long the header of a map is, if one stands at the beginning."""
    return {0xDE: 3, 0xDF: 5}.get(data[0], int(0x80 <= data[0] < 0x90))
