"""The files of `torch.save`: zip archives, and what torch before 1.6 wrote."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from jopt.base import LINE, printable
from jopt.interop.torchfiles.pickles.machine import Machine
from jopt.interop.torchfiles.pickles.makers import CONSTANTS, MAKERS, settled
from jopt.interop.torchfiles.pickles.placeholder import OLD, Name, Placeholder, RefusedError
from jopt.interop.torchfiles.pickles.tensors import DTYPES, Storage, storage, turned


def read(file: BinaryIO) -> Any:
    """What is in the file, from where it stands; `RefusedError` if that cannot be said."""
    start = file.read(len(OLD))
    file.seek(-len(start), os.SEEK_CUR)
    if start.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(file) as archive:
                return _zipped(archive, file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
            raise RefusedError(
                f"its zip archive is damaged: {printable(str(error), LINE)}"
            ) from None
    if start == OLD:
        return _old(file)
    if b"ustar" in start or not start:
        raise RefusedError(
            "the file is empty" if not start else "a tar archive, of torch before 0.1.10"
        )
    raise RefusedError("it is no file of torch.save")


def _no_storage(key: Any) -> Any:
    raise RefusedError("its pickle has a persistent id where none can be")


def unpickled(file: BinaryIO, persistent: Callable[[Any], Any] = _no_storage) -> Any:
    """The object of a bare pickle, up to its end."""
    return Machine(file, MAKERS, CONSTANTS, settled, persistent).run()


def _zipped(archive: zipfile.ZipFile, file: BinaryIO) -> Any:
    records = {info.filename: info for info in archive.infolist()}
    roots = [n.removesuffix("data.pkl") for n in records if n.endswith("/data.pkl")]
    roots = [root for root in roots if root.count("/") == 1]
    if len(roots) != 1:
        raise RefusedError("a zip archive, and none of torch.save")
    [root] = roots
    if f"{root}constants.pkl" in records:
        raise RefusedError(
            "a TorchScript program, not data: torch.jit.load(path).state_dict() has it"
        )
    total = sum(info.file_size for info in records.values())
    file.seek(0, os.SEEK_END)
    if total > file.tell():
        raise RefusedError("its records are larger than the file")

    def record(name: str) -> bytearray:
        info = records.get(root + name)
        if info is None:
            raise RefusedError(f"it has no record {name!r}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise RefusedError("its records are compressed, which torch never does")
        # Not through zipfile: torch may leave out the checksums, and then writes zeros.
        file.seek(info.header_offset)
        head = file.read(30)
        names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        file.seek(names, os.SEEK_CUR)
        data = bytearray(info.file_size)
        if head[:4] != b"PK\x03\x04" or file.readinto(data) < len(data):  # type: ignore[attr-defined]
            raise RefusedError(f"its record {name!r} is cut off")
        if info.CRC and zlib.crc32(data) != info.CRC:
            raise RefusedError(
                f"its record {name!r} is not as its checksum says: bits have flipped"
            )
        return data

    big = f"{root}byteorder" in records and bytes(record("byteorder")) == b"big"
    held: dict[str, Storage] = {}

    def persistent(key: Any) -> Any:
        dtype, name, entries = _described(key)
        if dtype is None:
            return Placeholder(str(key[1]))
        if name not in held:
            held[name] = storage(record(f"data/{name}"), dtype, big=big)
        _check(held[name], dtype, entries)
        return Storage(dtype, held[name].memory)

    return unpickled(io.BytesIO(record("data.pkl")), persistent)


def _described(key: Any) -> tuple[torch.dtype | None, str, int]:
    """The dtype of a storage, its name and its number of entries, by a persistent id."""
    if type(key) is not tuple or len(key) < 5 or key[0] not in ("storage", b"storage"):
        raise RefusedError("its pickle has a persistent id that is no storage's")
    _, kind, name, _, entries = key[:5]
    if not isinstance(kind, Name) or type(name) is not str or type(entries) is not int:
        raise RefusedError("its pickle describes a storage that cannot be")
    return DTYPES.get(kind.text), name, entries


def _check(held: Storage, dtype: torch.dtype, entries: int) -> None:
    if not 0 <= entries * dtype.itemsize <= held.memory.nbytes():
        raise RefusedError(f"a storage of {entries} entries, in {held.memory.nbytes()} bytes")


def _old(file: BinaryIO) -> Any:
    for _ in range(2):  # the magic number, and the version of the format
        unpickled(file)
    told = unpickled(file)
    big = isinstance(told, dict) and told.get("little_endian") is False
    held: dict[str, tuple[torch.dtype, int, bytearray]] = {}
    views: dict[str, Storage] = {}

    def persistent(key: Any) -> Any:
        if type(key) is tuple and len(key) > 1 and key[0] in ("module", b"module"):
            return key[1]  # a class with its source code
        dtype, name, entries = _described(key)
        if dtype is None:
            raise RefusedError(f"a storage that is no array: {printable(str(key[1]), LINE)}")
        if len(key) > 5 and key[5] is not None:
            raise RefusedError("a view of a storage, as torch wrote them before 0.4")
        if not 0 <= entries * dtype.itemsize <= _rest(file):
            raise RefusedError(f"a storage of {entries} entries, in a smaller file")
        if name not in held:
            # The numbers come after the pickle: the memory is made now, and filled then.
            held[name] = dtype, entries, bytearray(entries * dtype.itemsize)
            views[name] = storage(held[name][2], dtype)
        return views[name]

    tree = unpickled(file, persistent)
    order = unpickled(file)
    if type(order) is not list or set(order) != set(held):
        raise RefusedError("its list of storages is not that of its tensors")
    for name in order:
        dtype, entries, memory = held[name]
        told = int.from_bytes(file.read(8), "big" if big else "little")
        data = bytearray(file.read(len(memory)))
        if told != entries or len(data) < len(memory):
            raise RefusedError("its storages are cut off")
        memory[:] = turned(data, dtype, big=big)
    return tree


def _rest(file: BinaryIO) -> int:
    at = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(at)
    return end - at
