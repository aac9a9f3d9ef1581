"""The bytes of a tree in the file: what the manifest determines, and where the numbers go."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import msgpack

from jopt.checkpoint.leaves import DTYPES
from jopt.checkpoint.manifest import CHUNKED, Entry, ValueEntry, pack
from jopt.core.tree import Path

NDARRAY = 1
"""flax's msgpack extension type for an array: (shape, name of the dtype, bytes)."""


@dataclass(frozen=True)
class Payload:
    """Where `size` bytes of the array at `path` stand, from its byte `start` on."""

    path: Path
    start: int
    size: int


Piece = tuple[Path, bytes] | Payload


def pieces(entries: Mapping[Path, Entry], chunk: int) -> Iterator[Piece]:
    """The bytes of the tree: what the entries determine, with its path, and where numbers go.

    Arrays of more than `chunk` bytes are cut.
    """
    # In order the paths are the tree; making the tree itself would take memory for whatever a
    # manifest claims. Those in one entry of `todo` have their first `depth` keys in common.
    todo = [(sorted(entries), 0)]
    while todo:
        paths, depth = todo.pop()
        path = paths[0][:depth]
        if path:
            yield path[:-1], pack(path[-1])
        if path == paths[0]:
            yield from _leaf(path, entries[path], chunk)
            continue
        kids = [list(group) for _, group in groupby(paths, key=itemgetter(depth))]
        yield path, _packer.pack_map_header(len(kids))
        todo += [(kid, depth + 1) for kid in reversed(kids)]


def _leaf(path: Path, entry: Entry, chunk: int) -> Iterator[Piece]:
    if isinstance(entry, ValueEntry):
        yield path, pack(entry.value)
        return
    item = DTYPES[entry.dtype].itemsize
    size = math.prod(entry.shape) * item
    if size <= chunk:
        yield from _array(path, entry.dtype, entry.shape, 0, size)
        return
    step = max(1, chunk // item) * item
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


_packer = msgpack.Packer()
