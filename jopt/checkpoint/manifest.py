"""What a checkpoint says about itself: every leaf, the transform, and a checksum over both.

The manifest determines every byte of the file but the numbers in the arrays. Whoever made the
file can compute checksums, too: everything decoded here is taken for hostile until checked.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import msgpack

from jopt.base import CheckpointError
from jopt.checkpoint.leaves import DTYPES, PLAIN, Kind, printable
from jopt.core.tree import MAX_DEPTH, Path, from_pointer, pointer

FORMAT = "jopt checkpoint"
VERSION = 1

LIMIT = 2**61
"""No array is as long, in bytes: msgpack could not count its pieces."""

MAX_AXES = 64
"""No array of NumPy has more."""

MAX_LIST = 1024
"""No list in a manifest is longer: msgpack makes room for a list before it has read it."""

CHUNKED = "__msgpack_chunked_array__"
"""flax's mark of an array in pieces: no key of a tree may be the same."""

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
    """The entries by path, and the transform: `{"repr", "config"}`, or `None` if not given.

    **Attributes:** `leaves` and `transform`, as this version of jopt names them; `version`, that
    of the file; `stored` and `names`, `None` unless an older version named the leaves otherwise:
    what the file holds under its own names, and the present name of each leaf still wanted.
    """

    leaves: Mapping[Path, Entry]
    transform: Mapping[str, Any] | None = None
    version: int = field(default_factory=lambda: VERSION)
    stored: Mapping[Path, Entry] | None = None
    names: Mapping[Path, Path] | None = None

    @property
    def in_file(self) -> Mapping[Path, Entry]:
        """The entries under the names that the file itself has for them: its layout."""
        return self.leaves if self.stored is None else self.stored

    def name_of(self, path: Path) -> Path | None:
        """The present name of a leaf of the file, `None` if it is wanted no more."""
        return path if self.names is None else self.names.get(path)

    def renamed(self, name: Callable[[Path], Path | None]) -> Manifest:
        """With another name for each leaf, or none (`None`); the file stays as it is."""
        old = {p: p for p in self.leaves} if self.names is None else self.names
        names = {path: new for path, now in old.items() if (new := name(now)) is not None}
        leaves = {new: self.in_file[path] for path, new in names.items()}
        if len(leaves) < len(names):
            raise ValueError("two leaves would have the same name")
        return replace(self, leaves=leaves, stored=self.in_file, names=names)

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
        same = _packed(header) == written and _is_sorted(header)
        same = same and header.get("checksum") == f"{zlib.crc32(_packed(body)):08x}"
    except (TypeError, ValueError, OverflowError, RecursionError):
        same = False
    if not same:
        raise damaged(who, "the manifest does not match its checksum")
    version = body.get("version")
    if type(version) is int and version > VERSION:
        raise CheckpointError(
            who,
            "a newer jopt wrote this checkpoint",
            expected=f"format version {VERSION} or older",
            found=f"format version {version}",
            fix="Update jopt: pip install --upgrade jopt.",
        )
    leaves, transform = body.get("leaves"), body.get("transform")
    if set(body) != {"format", "leaves", "transform", "version"}:
        raise damaged(who, "the manifest has other entries than it should")
    if type(version) is not int or version < 1:
        raise damaged(who, "the manifest has no version")
    if not (transform is None or _is_transform(transform)):
        raise damaged(who, "the manifest describes the transform wrongly")
    if not isinstance(leaves, dict) or not leaves:
        raise damaged(who, "the manifest describes no tree")
    return Manifest(_entries(who, leaves), transform, version)


def _entries(who: str, leaves: dict[Any, Any]) -> dict[Path, Entry]:
    entries: dict[Path, Entry] = {}
    for text, plain in leaves.items():
        try:
            path = from_pointer(text)
            entries[path] = _entry(plain)
        except _UnknownDtypeError as error:
            raise CheckpointError(
                who,
                f"no dtype is called {printable(str(error))!r} here",
                path=printable(text),
                fix="If a newer ml_dtypes has it: pip install --upgrade ml_dtypes.",
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise damaged(who, "the manifest describes a leaf wrongly", path=str(text)) from None
        if CHUNKED in path:
            raise damaged(who, "flax's format keeps this key for itself", path=text)
    # In order, a leaf is followed at once by what would be inside of it. The sets of all
    # beginnings would take memory with the square of the depth.
    for outer, inner in pairwise(sorted(entries)):
        if inner[: len(outer)] == outer:
            raise damaged(who, "the manifest puts a leaf into a leaf", path=pointer(inner))
    return entries


class _UnknownDtypeError(Exception):
    """A dtype that is none of `DTYPES`; its text is the name."""


def _entry(plain: Any) -> Entry:
    if set(plain) == {"value"}:
        if type(plain["value"]) in PLAIN or plain["value"] == {}:
            return ValueEntry(plain["value"])
        raise ValueError(plain)
    if set(plain) != {"crc32", "dtype", "shape"}:
        raise ValueError(plain)
    shape, crc = plain["shape"], plain["crc32"]
    natural = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not natural or len(shape) > MAX_AXES or type(plain["dtype"]) is not str:
        raise ValueError(plain)
    if plain["dtype"] not in DTYPES:
        raise _UnknownDtypeError(plain["dtype"])
    if len(crc) != 8 or crc != f"{int(crc, 16):08x}":
        raise ValueError(plain)
    item = DTYPES[plain["dtype"]].itemsize
    # An axis of length 0 makes any array small, but numpy wants to count the others all the same.
    if math.prod(n for n in shape if n) * item >= (LIMIT if all(shape) else 2**63):
        raise ValueError(plain)
    return ArrayEntry(tuple(shape), plain["dtype"], crc)


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


def _checksum(body: Any) -> str:
    return f"{zlib.crc32(pack(body)):08x}"


def pack(value: Any) -> bytes:
    """msgpack as flax writes it, maps sorted by key."""
    return _packed(_in_order(value))


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, default=_extension, strict_types=True)
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
    at = None if path is None else printable(path)
    return CheckpointError(who, f"the checkpoint is damaged: {what}", path=at, fix=fix, **facts)


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
