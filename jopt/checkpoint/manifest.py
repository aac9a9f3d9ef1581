"""What a checkpoint says about itself: every leaf, the transform, and a checksum over both.

The manifest determines every byte of the file but the numbers in the arrays.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgpack
import numpy as np

from jopt.base import LINE, DamagedError, printable
from jopt.checkpoint.leaves import Kind, kind_like
from jopt.core.paths import Path, pointer

FORMAT = "jopt checkpoint"
VERSION = 2

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


class ArrayEntry(NamedTuple):
    """One array: its shape, its dtype by name, and the CRC-32 of its bytes as 8 hex digits."""

    shape: tuple[int, ...]
    dtype: str
    crc32: str

    @property
    def kind(self) -> Kind:
        """Dtype and shape."""
        return kind_like(self.dtype, self.shape)

    def plain(self) -> dict[str, Any]:
        """As the manifest writes it."""
        return {"crc32": self.crc32, "dtype": self.dtype, "shape": list(self.shape)}


class ValueEntry(NamedTuple):
    """One Python value, or `{}` for an empty container; it stands in the manifest too."""

    value: Any

    @property
    def kind(self) -> Kind:
        """The Python type."""
        return kind_like(type(self.value).__name__)

    def plain(self) -> dict[str, Any]:
        """As the manifest writes it."""
        return {"value": self.value}


Entry = ArrayEntry | ValueEntry
"""What a manifest says of one leaf."""


@dataclass(frozen=True)
class Manifest:
    """The entries by path, and the transform: `{"repr", "config"}`, or `None` if not given.

    **Attributes:** `leaves` and `transform`, as this version of jopt names them; `version`, that
    of the file; `stored` and `names`, `None` unless an older version named the leaves otherwise:
    what the file holds under its own names, and the present name of each leaf still wanted;
    `factors`, what the numbers of a leaf are multiplied by; `at_zero`, leaves that must hold 0,
    because otherwise nobody can tell what others mean; `added`, the leaves that an older version
    did not have, with their values.
    """

    leaves: Mapping[Path, Entry]
    transform: Mapping[str, Any] | None = None
    version: int = field(default_factory=lambda: VERSION)
    stored: Mapping[Path, Entry] | None = None
    names: Mapping[Path, Path] | None = None
    factors: Mapping[Path, float] = field(default_factory=dict)
    at_zero: frozenset[Path] = frozenset()
    added: Mapping[Path, np.ndarray[Any, Any]] = field(default_factory=dict)

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
        added = {new: x for now, x in self.added.items() if (new := name(now)) is not None}
        kept = replace(self, stored=self.in_file, names=names, added=added)
        if len(kept._all()) < len(names) + len(added):
            raise ValueError("two leaves would have the same name")
        return replace(kept, leaves=kept._all())

    def extended(self, values: Mapping[Path, np.ndarray[Any, Any]]) -> Manifest:
        """With more leaves, that the file has not; a leaf that is there stays."""
        order = sorted(self.leaves) if values else []
        more = {}
        for path, x in values.items():
            after = order[(at := bisect_left(order, path)) : at + 1]
            inside = after and after[0][: len(path)] == path
            within = any(path[:n] in self.leaves for n in range(len(path)))
            if not inside and not within:
                more[path] = x
        names = {p: p for p in self.leaves} if self.names is None else self.names
        new = replace(self, stored=self.in_file, names=names, added={**self.added, **more})
        return replace(new, leaves=new._all())

    def _all(self) -> dict[Path, Entry]:
        found = {new: self.in_file[path] for path, new in (self.names or {}).items()}
        for path, x in self.added.items():
            crc = f"{zlib.crc32(x.tobytes()):08x}"
            found[path] = ArrayEntry(x.shape, x.dtype.name, crc)
        return found

    def pack(self, order: Sequence[tuple[str, Path]] | None = None) -> bytes:
        """The manifest as msgpack, every map sorted by key; `order` is that of its leaves."""
        order = ordered(self.leaves) if order is None else order
        packed, leaves = packing(), self.leaves
        rest = b"".join(
            [
                pack("format") + pack(FORMAT) + pack("leaves"),
                packer.pack_map_header(len(order)),
                *[packed(text, leaves[path]) for text, path in order],
                pack("transform") + pack(self.transform) + pack("version") + pack(VERSION),
            ]
        )
        return b"\x85" + pack("checksum") + pack(f"{zlib.crc32(rest, _FOUR):08x}") + rest


def ordered(leaves: Iterable[Path]) -> list[tuple[str, Path]]:
    """The pointers of these leaves, with their paths, as a manifest has them."""
    return sorted([(pointer(path), path) for path in leaves])


def blank(leaves: Mapping[Path, Any], kinds: Mapping[Path, Kind]) -> dict[Path, Entry]:
    """Entries for these leaves, with sums that are not known yet."""
    empty = {
        kind: ArrayEntry(kind.shape, kind.dtype, "0" * 8)
        for kind in set(kinds.values())
        if kind.shape is not None
    }
    return {path: empty.get(kind) or ValueEntry(leaves[path]) for path, kind in kinds.items()}


packer = msgpack.Packer()
"""For texts and headers: to make one takes longer than to use it."""

_FOUR = zlib.crc32(b"\x84")
"""The checksum is over a map of the four entries but itself."""


CRC = b"\x83" + packer.pack("crc32") + b"\xa8"
"""What the entry of an array begins with, before its sum: 8 hex digits."""


def packing() -> Callable[[str, Entry], bytes]:
    """What packs a leaf's pointer and entry; all that leaves of a kind share is packed once."""
    text_of = packer.pack
    tails: dict[tuple[Any, ...], bytes] = {}

    def packed(text: str, entry: Entry) -> bytes:
        if isinstance(entry, ValueEntry):
            return bytes(text_of(text)) + pack(entry.plain())
        shape, dtype, crc = entry
        kind = shape, dtype
        if kind not in tails:
            tails[kind] = b"".join([pack(x) for x in ("dtype", dtype, "shape", list(shape))])
        return b"%b%b%b%b" % (text_of(text), CRC, crc.encode(), tails[kind])

    return packed


def pack(value: Any) -> bytes:
    """msgpack as flax writes it, maps sorted by key."""
    return spelled(_in_order(value))


def spelled(value: Any) -> bytes:
    """The same with maps in the order that they have."""
    packed: bytes = msgpack.packb(value, default=_extension, strict_types=True, buf_size=2**10)
    return packed


def not_ours(who: str) -> DamagedError:
    """The error for bytes that jopt has not written."""
    fix = "If flax wrote it: jopt.load_state_dict(like, flax.serialization.msgpack_restore(data))."
    return DamagedError(who, "this is no jopt checkpoint", fix=fix)


def damaged(who: str, what: str, *, path: str | None = None, **facts: Any) -> DamagedError:
    """The error for a checkpoint that is not as it was written."""
    fix = "Restore an older checkpoint: what this one held cannot be trusted."
    at = None if path is None else printable(path, LINE)
    return DamagedError(who, f"the checkpoint is damaged: {what}", path=at, fix=fix, **facts)


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
