"""A file of any format as its leaves by path, read piece by piece where the format allows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint import files, wire
from jopt.checkpoint.leaves import Kind, flatten, kinds_of
from jopt.checkpoint.manifest import ValueEntry
from jopt.cli import orbax_folder
from jopt.cli.formats import FORMATS, format_of
from jopt.core.paths import Path, shown

PIECE = 2**22
"""Bytes read at once, so that a large array takes no more memory than a small one."""

Wanted = Callable[[Path], bool]
Pieces = Iterator[tuple[Path, np.ndarray[Any, Any]]]


@dataclass(frozen=True)
class Source:
    """An open file.

    **Attributes:** `name`, `format`, and `size` on the disk; `kinds` of all leaves, in the
    order of their paths; `values`, those that are no arrays; `scan`, the entries of all arrays,
    or of those that are wanted, in the same order, in pieces; `transform` and `version`, what
    jopt has recorded; `summed`, whether there are checksums, which reading all of it compares.
    """

    name: str
    format: str
    size: int
    kinds: Mapping[Path, Kind]
    values: Mapping[Path, Any]
    scan: Callable[[Wanted | None], Pieces]
    transform: Mapping[str, Any] | None = None
    version: int | None = None
    summed: bool = False


def chosen(who: str, match: re.Pattern[str] | None, *sources: Source) -> list[AbstractSet[Path]]:
    """The leaves of each source whose name the pattern occurs in: of one of them at least."""
    if match is None:
        return [source.kinds.keys() for source in sources]
    found: list[AbstractSet[Path]] = [
        {p for p in s.kinds if match.search(shown(p))} for s in sources
    ]
    if not any(found):
        raise CheckpointError(
            who,
            "--match has a pattern that matches no leaf",
            found=repr(match.pattern),
            fix=f"jopt inspect --no-stats {sources[0].name} shows the names.",
        )
    return [*found]


@contextmanager
def opened(who: str, path: str, named: str | None = None) -> Iterator[Source]:
    """The file at `path`; print nothing within, as its errors count as errors of this file."""
    found = format_of(who, path, exists=True, named=named).name
    label = f"{who} {path}"
    if found in _STREAMED:
        with files.reading(who, path) as file:
            yield _STREAMED[found](label, path, file)
    else:
        yield _whole(label, path, found)


def _whole(who: str, path: str, name: str) -> Source:
    """A file that is read at once."""
    flat = flatten(who, FORMATS[name].read(who, path))
    leaves = {p: flat[p] for p in sorted(flat)}
    kinds = kinds_of(who, leaves)
    arrays = {p: np.asarray(x) for p, x in leaves.items() if kinds[p].shape is not None}
    manifest = orbax_folder.recorded(who, path) if name == "orbax" else None
    return Source(
        name=path,
        format=name,
        size=_size(path),
        kinds=kinds,
        values={p: x for p, x in leaves.items() if p not in arrays},
        scan=lambda wanted: (
            (p, piece)
            for p, x in arrays.items()
            if wanted is None or wanted(p)
            for piece in _cut(x)
        ),
        transform=manifest.transform if manifest else None,
        version=manifest.version if manifest else None,
        summed=manifest is not None,
    )


def _safetensors(who: str, path: str, file: BinaryIO) -> Source:
    from jopt.interop.safetensors.reading import contents, scan

    found = contents(who, path, file)
    return Source(
        name=path,
        format="safetensors",
        size=_size(path),
        kinds={p: found.kinds[p] for p in sorted(found.kinds)},
        values=found.values,
        scan=lambda wanted: scan(who, file, found, PIECE, wanted),
        transform=found.manifest.transform if found.manifest else None,
        version=found.manifest.version if found.manifest else None,
        summed=found.manifest is not None,
    )


def _checkpoint(who: str, path: str, file: BinaryIO) -> Source:
    manifest = wire.read_manifest(who, file)
    start = file.tell()

    def scan(wanted: Wanted | None) -> Pieces:
        file.seek(start)
        for at, entry, piece in wire.scan(who, file, manifest, PIECE, wanted):
            if not isinstance(entry, ValueEntry):
                yield at, piece

    entries = manifest.leaves
    return Source(
        name=path,
        format="jopt",
        size=_size(path),
        kinds={p: entries[p].kind for p in sorted(entries)},
        values={p: e.value for p, e in entries.items() if isinstance(e, ValueEntry)},
        scan=scan,
        transform=manifest.transform,
        version=manifest.version,
        summed=True,
    )


_STREAMED = {"jopt": _checkpoint, "safetensors": _safetensors}


def _cut(array: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    flat = array.reshape(-1)
    step = max(1, PIECE // array.dtype.itemsize)
    for start in range(0, flat.size, step):
        yield flat[start : start + step]


def _size(path: str) -> int:
    if not os.path.isdir(path):
        return os.path.getsize(path)
    inner = (os.path.join(root, name) for root, _, names in os.walk(path) for name in names)
    return sum(os.path.getsize(file) for file in inner)
