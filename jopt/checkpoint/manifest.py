"""What a checkpoint says about itself: every leaf, the transform, and a checksum over both.

The manifest determines every byte of the file but the numbers in the arrays.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

from jopt.base import CheckpointError
from jopt.checkpoint.leaves import DTYPES, PLAIN, Kind, from_pointer, pointer
from jopt.core.tree import Path

FORMAT = "jopt checkpoint"
VERSION = 1

LIMIT = 2**62
"""No array is as long, in bytes: its pieces could not be counted."""

MAX_LIST = 1024
"""No list in a manifest is longer: msgpack makes room for a list before it has read it."""

COMPLEX = 2
"""flax's msgpack extension type for a Python complex number."""


@dataclass(frozen=True)
class ArrayEntry:
    """One array: its shape, its dtype by name, and the CRC-32 of its bytes as 8 hex digits."""

    shape: tuple[int, ...]
    dtype: str
    crc32: str

    @property
    def kind(self) -> Kind:
        """Dtype and shape."""
        return Kind(self.dtype, self.shape)

    def plain(self) -> dict[str, Any]:
        """As the manifest writes it."""
        return {"crc32": self.crc32, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class ValueEntry:
    """One Python value, or `{}` for an empty container; it stands in the manifest too."""

    value: Any

    @property
    def kind(self) -> Kind:
        """The Python type."""
        return Kind(type(self.value).__name__)

    def plain(self) -> dict[str, Any]:
        """As the manifest writes it."""
        return {"value": self.value}


Entry = ArrayEntry | ValueEntry


@dataclass(frozen=True)
class Manifest:
    """The entries by path, and the transform: `{"repr", "config"}`, or `None` if not given."""

    leaves: Mapping[Path, Entry]
    transform: Mapping[str, Any] | None = None
    version: int = field(default=VERSION)

    def pack(self) -> bytes:
        """The manifest as msgpack, every map sorted by key."""
        leaves = {pointer(path): entry.plain() for path, entry in self.leaves.items()}
        body = {
            "format": FORMAT,
            "leaves": leaves,
            "transform": self.transform,
            "version": self.version,
        }
        return pack({"checksum": _checksum(body), **body})


def unpack_manifest(who: str, header: Any, written: bytes) -> Manifest:
    """The manifest that `header` holds, fully checked; `written` are the bytes it came from."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise not_ours(who)
    body = {k: v for k, v in header.items() if k != "checksum"}
    # Packing again must give the same bytes: that leaves no room for duplicate keys or numbers
    # written in two ways, which a checksum over the decoded values would let pass.
    try:
        same = header.get("checksum") == _checksum(body) and pack(header) == written
    except (TypeError, ValueError, OverflowError, RecursionError):
        same = False
    if not same:
        raise damaged(who, "the manifest does not match its checksum")
    version = body.get("version")
    if type(version) is int and version > VERSION:
        raise CheckpointError(
            who,
            "a newer jopt wrote this checkpoint",
            expected=f"format version {VERSION}",
            found=f"format version {version}",
            fix="Update jopt: pip install --upgrade jopt.",
        )
    leaves, transform = body.get("leaves"), body.get("transform")
    sound = (
        set(body) == {"format", "leaves", "transform", "version"}
        and type(version) is int
        and version >= 1
        and isinstance(leaves, dict)
        and (transform is None or _is_transform(transform))
    )
    if not sound or not isinstance(leaves, dict):
        raise damaged(who, "the manifest lacks entries")
    return Manifest(_entries(who, leaves), transform, VERSION)


def _entries(who: str, leaves: dict[Any, Any]) -> dict[Path, Entry]:
    entries: dict[Path, Entry] = {}
    for text, plain in leaves.items():
        try:
            path = from_pointer(text)
            entries[path] = _entry(plain)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise damaged(who, "the manifest describes a leaf wrongly", path=str(text)) from None
    holders = {path[:i] for path in entries for i in range(len(path))}
    both = sorted(holders & set(entries))
    if both or not entries:
        where = pointer(both[0]) if both else None
        raise damaged(who, "the manifest describes no tree", path=where)
    return entries


def _entry(plain: Any) -> Entry:
    if set(plain) == {"value"}:
        if type(plain["value"]) in PLAIN or plain["value"] == {}:
            return ValueEntry(plain["value"])
        raise ValueError(plain)
    if set(plain) != {"crc32", "dtype", "shape"}:
        raise ValueError(plain)
    shape, crc = plain["shape"], plain["crc32"]
    natural = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not natural or plain["dtype"] not in DTYPES or crc != f"{int(crc, 16):08x}":
        raise ValueError(plain)
    if math.prod(shape) * DTYPES[plain["dtype"]].itemsize >= LIMIT:
        raise ValueError(plain)
    return ArrayEntry(tuple(shape), plain["dtype"], crc)


def _is_transform(transform: Any) -> bool:
    return (
        isinstance(transform, dict)
        and set(transform) == {"repr", "config"}
        and isinstance(transform["repr"], str)
        and isinstance(transform["config"], dict)
    )


def _checksum(body: Any) -> str:
    return f"{zlib.crc32(pack(body)):08x}"


def pack(value: Any) -> bytes:
    """msgpack as flax writes it, maps sorted by key."""
    packed: bytes = msgpack.packb(_in_order(value), default=_extension, strict_types=True)
    return packed


def unpack_extension(code: int, data: bytes) -> Any:
    """What an extension of the manifest holds: only complex numbers may."""
    if code != COMPLEX:
        raise ValueError(f"extension type {code}")
    real, imag = msgpack.unpackb(data)
    return complex(real, imag)


def not_ours(who: str) -> CheckpointError:
    """The error for bytes that jopt has not written."""
    fix = "If flax wrote it: jopt.load_state_dict(like, flax.serialization.msgpack_restore(data))."
    return CheckpointError(who, "this is no jopt checkpoint", fix=fix)


def damaged(who: str, what: str, *, path: str | None = None, **facts: Any) -> CheckpointError:
    """The error for a checkpoint that is not as it was written."""
    fix = "Restore an older checkpoint: what this one held cannot be trusted."
    return CheckpointError(who, f"the checkpoint is damaged: {what}", path=path, fix=fix, **facts)


def _extension(value: Any) -> Any:
    if type(value) is complex:
        return msgpack.ExtType(COMPLEX, msgpack.packb((value.real, value.imag)))
    if type(value) is int:
        raise OverflowError(f"{value} needs more than 64 bits")
    raise TypeError(f"{type(value).__name__} has no place in a checkpoint")


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    return [_in_order(v) for v in value] if isinstance(value, list) else value
