"""Folders of `torch.distributed.checkpoint`, read on one host without running what is in them.

`.metadata` is a pickle that says which tensors there are, of which pieces, and where in the
`.distcp` files each piece lies, as a file of `torch.save` of its own.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from jopt.base import LINE, printable
from jopt.interop.torchfiles.pickles import archive
from jopt.interop.torchfiles.pickles.placeholder import Placeholder, RefusedError
from jopt.interop.torchfiles.pickles.tensors import sizes


def read(folder: Path) -> dict[str, Any]:
    """The tree in the folder; `RefusedError` if its parts do not fit together."""
    with open(folder / ".metadata", "rb") as file:
        told = _fields(archive.unpickled(file))
    kinds, places, paths = (
        told.get(key) for key in ("state_dict_metadata", "storage_data", "planner_data")
    )
    if not isinstance(kinds, dict) or not isinstance(places, dict):
        raise RefusedError("its index lists no tensors")
    pieces: dict[str, list[tuple[Any, Mapping[str, Any]]]] = {}
    for index, place in places.items():
        at = _fields(index)
        pieces.setdefault(str(at.get("fqn")), []).append((at.get("offset"), _fields(place)))
    found: dict[Any, Any] = {}
    for name, kind in kinds.items():
        value = _value(folder, str(name), kind, pieces.get(str(name), []))
        path = paths.get(name, (name,)) if isinstance(paths, dict) else (name,)
        _put(found, path, value)
    return {str(k): _listed(v) for k, v in found.items()}


def _fields(node: Any) -> dict[str, Any]:
    if not isinstance(node, Placeholder) or not isinstance(node.state, dict):
        raise RefusedError("its index is not as torch writes it")
    return node.state


def _value(folder: Path, name: str, kind: Any, pieces: list[Any]) -> Any:
    if not isinstance(kind, Placeholder):
        raise RefusedError("its index is not as torch writes it")
    if kind.name.endswith(".BytesStorageMetadata"):
        if len(pieces) != 1:
            raise RefusedError(f"{printable(name, LINE)} lies in {len(pieces)} places")
        return next(_read(folder, name, pieces))[1]
    told = _fields(kind)
    shape = sizes(told.get("size"))
    out: torch.Tensor | None = None
    boxes: list[list[tuple[int, int]]] = []
    for offset, piece in _read(folder, name, pieces):
        if not isinstance(piece, torch.Tensor):
            raise RefusedError(f"{printable(name, LINE)} is no tensor")
        if piece.shape == shape and len(pieces) == 1:
            return piece
        if out is None:  # the pieces are at hand, which are as large as all of it
            need, held = torch.Size(shape).numel(), sum(int(p["length"]) for _, p in pieces)
            if need * piece.dtype.itemsize > held:
                raise RefusedError(
                    f"the pieces of {printable(name, LINE)} are fewer than its entries"
                )
            out = torch.empty(shape, dtype=piece.dtype)
        start = sizes(offset if offset is not None else (0,) * len(shape))
        if not len(start) == piece.ndim == len(shape) or piece.dtype != out.dtype:
            raise RefusedError(f"a piece of {printable(name, LINE)} is of another tensor")
        box = [(a, a + n) for a, n in zip(start, piece.shape, strict=True)]
        if any(end > n for (_, end), n in zip(box, shape, strict=True)):
            raise RefusedError(f"a piece of {printable(name, LINE)} lies outside of it")
        if any(_overlap(box, other) for other in boxes):
            raise RefusedError(f"two pieces of {printable(name, LINE)} lie in one place")
        boxes.append(box)
        out[tuple(slice(a, e) for a, e in box)] = piece
    if out is None or sum(math.prod(e - a for a, e in box) for box in boxes) != out.numel():
        raise RefusedError(f"not all pieces of {printable(name, LINE)} are there")
    return out


def _overlap(box: list[tuple[int, int]], other: list[tuple[int, int]]) -> bool:
    return all(max(a, b) < min(c, d) for (a, c), (b, d) in zip(box, other, strict=True))


def _read(folder: Path, name: str, pieces: list[Any]) -> Iterator[tuple[Any, Any]]:
    for offset, place in pieces:
        file, at, length = (place.get(k) for k in ("relative_path", "offset", "length"))
        plain = type(file) is str and Path(file).name == file
        if not plain or not (type(at) is type(length) is int and at >= 0 and length >= 0):
            raise RefusedError(f"{printable(name, LINE)} lies in no file of this folder")
        if place.get("transform_descriptors"):
            raise RefusedError("its pieces are compressed or encrypted")
        with open(folder / file, "rb") as source:
            source.seek(at)
            data = source.read(length)
        if len(data) < length:
            raise RefusedError(f"{printable(file, LINE)} is cut off")
        yield offset, archive.read(io.BytesIO(data))


def _put(root: dict[Any, Any], path: Any, value: Any) -> None:
    """Into nested dicts; where torch had a list, keys are whole numbers."""
    if not isinstance(path, tuple | list) or not path:
        raise RefusedError("its index is not as torch writes it")
    node = root
    for key in path[:-1]:
        node = node.setdefault(key, {})
        if type(node) is not dict:
            raise RefusedError("its index has a tensor within a tensor")
    node[path[-1]] = value


def _listed(node: Any) -> Any:
    if type(node) is not dict:
        return node
    inner = {k: _listed(v) for k, v in node.items()}
    whole = bool(inner) and all(type(k) is int for k in inner)
    return [inner[k] for k in sorted(inner)] if whole else inner
