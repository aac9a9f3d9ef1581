"""A manifest from its bytes.

Whoever made the file can compute checksums, too: everything decoded here is taken for hostile
until checked.
"""

from __future__ import annotations

import base64
import math
import zlib
from itertools import pairwise
from typing import Any

import msgpack

from jopt.base import LINE, CheckpointError, printable
from jopt.checkpoint import manifest as present
from jopt.checkpoint import memory
from jopt.checkpoint.leaves import DTYPES, PLAIN
from jopt.checkpoint.manifest import (
    CHUNKED,
    COMPLEX,
    CRC,
    FORMAT,
    MAX_AXES,
    MAX_LIST,
    ArrayEntry,
    Entry,
    Manifest,
    ValueEntry,
    damaged,
    not_ours,
    packer,
    packing,
    spelled,
)
from jopt.checkpoint.skimming import kind_at, text_at
from jopt.core.paths import MAX_DEPTH, Path, from_pointer, pointer


def unpack_manifest(who: str, written: bytes) -> Manifest:
    """The manifest in these bytes, fully checked, under the names of its own version."""
    spans = _Spans(written)
    try:
        spans.read()
    except Exception as error:  # msgpack raises a dozen kinds, all meaning "no msgpack"
        raise damaged(who, f"the manifest cannot be decoded ({error})") from None
    if spans.values.get("format") != FORMAT:
        raise not_ours(who)
    # Packing again must give the same bytes: that leaves no room for duplicate keys or numbers
    # written in two ways, which a checksum over the decoded values would let pass.
    if not spans.are_sound():
        raise damaged(who, "the manifest does not match its checksum")
    body = spans.values
    version, transform = body.get("version"), body.get("transform")
    if type(version) is int and version > present.VERSION:
        raise CheckpointError(
            who,
            "a newer jopt wrote this checkpoint",
            expected=f"format version {present.VERSION} or older",
            found=f"format version {version}",
            fix="Update jopt: pip install --upgrade jopt.",
        )
    if set(body) != {"checksum", "format", "leaves", "transform", "version"}:
        raise damaged(who, "the manifest has other entries than it should")
    if type(version) is not int or version < 1:
        raise damaged(who, "the manifest has no version")
    if not (transform is None or _is_transform(transform)):
        raise damaged(who, "the manifest describes the transform wrongly")
    return Manifest(_entries(who, written, *spans.leaves()), transform, version)


def manifest_in(who: str, text: Any) -> Manifest:
    """The same of bytes that stand as base64 in a file of another format."""
    try:
        written = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise damaged(who, f"the manifest cannot be decoded ({error})") from None
    if base64.b64encode(written).decode() != text:
        raise damaged(who, "the manifest is not as it was written")
    return unpack_manifest(who, written)


class _Spans:
    """The entries of a manifest: decoded, but for the leaves, which may be very many."""

    def __init__(self, written: bytes) -> None:
        self._written = written
        self._spans: list[tuple[str, int, int, int]] = []
        self._sum = 0
        self.values: dict[str, Any] = {}
        self.end = 0

    def read(self) -> None:
        """Decode."""
        source = unpacker(memory.opened(self._written), len(self._written))
        if not _is_map(self._written):
            source.skip()
        count = source.read_map_header() if _is_map(self._written) else 0
        self.end = source.tell()
        self._sum = zlib.crc32(_map_header(count - 1)) if count else 0
        for _ in range(count):
            begin, key = self.end, source.unpack()
            if type(key) is not str:
                raise ValueError("a key is no text")
            middle = source.tell()
            self.values[key] = source.skip() if key == "leaves" else source.unpack()
            self.end = source.tell()
            self._spans.append((key, begin, middle, self.end))
            if key != "checksum":
                part = memoryview(self._written)[begin : self.end]
                self._sum = zlib.crc32(part, self._sum)
        if self.end != len(self._written):
            raise ValueError("more bytes stand after its end")

    def are_sound(self) -> bool:
        """Whether the sum is right, and all but the leaves in its place and only spelling."""
        keys = [key for key, _, _, _ in self._spans]
        ordered = all(a < b for a, b in pairwise(keys)) and _is_sorted(self.values)
        summed = self.values.get("checksum") == f"{self._sum:08x}"
        try:
            same = self._written.startswith(_map_header(len(keys))) and all(
                self._written[begin:middle] == spelled(key)
                and (key == "leaves" or self._written[middle:end] == spelled(self.values[key]))
                for key, begin, middle, end in self._spans
            )
        except (TypeError, ValueError, OverflowError, RecursionError):
            return False
        return ordered and summed and same

    def leaves(self) -> tuple[int, int]:
        """Where the leaves begin and end."""
        found = [span for span in self._spans if span[0] == "leaves"]
        return found[0][2:]


def _is_map(data: bytes | memoryview) -> bool:
    return bool(data) and (0x80 <= data[0] < 0x90 or data[0] in (0xDE, 0xDF))


def _map_header(count: int) -> bytes:
    return bytes(packer.pack_map_header(count))


def unpacker(file: Any, size: int) -> Any:
    """What decodes a manifest of at most so many bytes, with room for no more than they hold."""
    return msgpack.Unpacker(
        file, read_size=2**16, max_buffer_size=min(max(size, 2**16), 2**31 - 1),
        strict_map_key=True, max_array_len=MAX_LIST, ext_hook=unpack_extension,
    )  # fmt: skip


def _entries(who: str, data: bytes, start: int, end: int) -> dict[Path, Entry]:
    """The leaves by path. One after the other: all decoded at once take much more memory."""
    leaves = memoryview(data)[start:end]
    source = unpacker(memory.opened(leaves), len(leaves))
    count = source.read_map_header() if _is_map(leaves) else 0
    if not count:
        raise damaged(who, "the manifest describes no tree")
    entries: dict[Path, Entry] = {}
    known: dict[str, str] = {}  # keys, of which most occur many times
    tails: dict[bytes, tuple[Any, ...]] = {}  # and the kinds of arrays, by how they are written
    spell, before, at, tail = packing(), None, start + source.tell(), b""
    sound = data[start:at] == _map_header(count)
    for _ in range(count):
        text: Any = "(a key)"
        try:
            # Most are arrays of a kind that has been met: known by its bytes.
            begin, middle = text_at(data, at)
            summed = middle + len(CRC)
            tail = kind_at(data, middle, tail)
            after = summed + 8 + len(tail)
            if tail in tails:
                text = data[begin:middle].decode()
                shape, dtype = tails[tail]
                entry: Entry = ArrayEntry(shape, dtype, _hex(data[summed : summed + 8]))
            else:
                source = unpacker(memory.opened(leaves[at - start :]), end - at)
                text = source.unpack()
                middle = at + source.tell()
                entry = _entry(source.unpack())
                after = at + source.tell()
                sound = sound and data[at:after] == spell(text, entry)
                if isinstance(entry, ArrayEntry):
                    tails[data[middle + len(CRC) + 8 : after]] = entry[:2]
            path = tuple([known.setdefault(key, key) for key in from_pointer(text)])
        except _UnknownDtypeError as error:
            raise CheckpointError(
                who,
                f"no dtype is called {printable(str(error), LINE)!r} here",
                path=printable(text, LINE),
                fix="If a newer ml_dtypes has it: pip install --upgrade ml_dtypes.",
            ) from None
        except Exception:  # a key or an entry of another type: a dozen kinds
            raise damaged(who, "the manifest describes a leaf wrongly", path=str(text)) from None
        if not sound or (before is not None and text <= before):
            raise damaged(who, "the manifest does not match its checksum")
        if CHUNKED in path:
            raise damaged(who, "flax's format keeps this key for itself", path=text)
        entries[path] = entry
        before, at = text, after
    # In order, a leaf is followed at once by what would be inside of it. The sets of all
    # beginnings would take memory with the square of the depth.
    for outer, inner in pairwise(sorted(entries)):
        if inner[: len(outer)] == outer:
            raise damaged(who, "the manifest puts a leaf into a leaf", path=pointer(inner))
    return entries


class _UnknownDtypeError(Exception):
    """A dtype that is none of `DTYPES`; its text is the name."""


def _entry(plain: Any) -> Entry:
    if len(plain) == 1:
        value = plain["value"]
        if type(value) in PLAIN or value == {}:
            return ValueEntry(value)
        raise ValueError(plain)
    shape, dtype = plain["shape"], plain["dtype"]
    if len(plain) != 3:
        raise ValueError(plain)
    crc = _hex(plain["crc32"].encode())
    _check_kind(shape, dtype)
    return ArrayEntry(tuple(shape), dtype, crc)


def _hex(crc: bytes) -> str:
    if len(crc) != 8 or crc.strip(b"0123456789abcdef"):
        raise ValueError(crc)
    return crc.decode()


def _check_kind(shape: Any, dtype: Any) -> None:
    natural = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not natural or len(shape) > MAX_AXES or type(dtype) is not str:
        raise ValueError(shape)
    if dtype not in DTYPES:
        raise _UnknownDtypeError(dtype)
    item = DTYPES[dtype].itemsize
    # An axis of length 0 makes any array small, but numpy wants to count the others all the same.
    if math.prod([n for n in shape if n]) * item >= (present.LIMIT if all(shape) else 2**63):
        raise ValueError(shape)


def _is_transform(transform: Any) -> bool:
    return (
        isinstance(transform, dict)
        and set(transform) == {"repr", "config"}
        and isinstance(transform["repr"], str)
        and isinstance(transform["config"], dict)
        and _is_plain(transform["config"])
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _is_sorted(value: Any, depth: int = 0) -> bool:
    if not isinstance(value, dict | list):
        return True
    kids = value
    if isinstance(value, dict):
        if not all(a < b for a, b in pairwise(value)):
            return False
        kids = list(value.values())
    return depth < MAX_DEPTH and all(_is_sorted(kid, depth + 1) for kid in kids)


def unpack_extension(code: int, data: bytes) -> Any:
    """What an extension of the manifest holds: only complex numbers may."""
    if code != COMPLEX:
        raise ValueError(f"extension type {code}")
    real, imag = msgpack.unpackb(data)
    return complex(real, imag)
