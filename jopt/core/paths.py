"""The way to a leaf: its keys as strings, and the names that paths have.

A leaf is called by its keys joined with `/`; files write the same as a JSON pointer.
"""

from __future__ import annotations

from typing import Any

from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

Path = tuple[str, ...]
"""The keys on the way to a leaf, as strings."""

MAX_DEPTH = 256  # deeper than any model, and shallow enough for every reader's recursion


def pointer(path: Path) -> str:
    """A path as one string, a JSON pointer (RFC 6901): `/a~1b/c` is `c` in `a/b`."""
    return f"/{shown(path)}" if path else ""


def from_pointer(text: str) -> Path:
    """The path of a JSON pointer; a `ValueError` if it is not as `pointer` writes it."""
    if text and not text.startswith("/"):
        raise ValueError(text)
    path = tuple(text.split("/")[1:])
    if "~" in text:
        path = tuple(key.replace("~1", "/").replace("~0", "~") for key in path)
        if pointer(path) != text:
            raise ValueError(text)
    if len(path) > MAX_DEPTH:
        raise ValueError(text)
    return path


def shown(path: Path) -> str:
    """The name of a leaf: its keys joined by `/`, with `~1` for a `/` and `~0` for a `~` in a key.

    No two paths have one name.
    """
    text = "/".join(path)
    if "~" in text or text.count("/") >= len(path) > 0:
        return "/".join([key.replace("~", "~0").replace("/", "~1") for key in path])
    return text


def part_of(key: Any) -> str:
    """An entry of a tree's path as jax gives it, as a string."""
    if isinstance(key, DictKey | FlattenedIndexKey):
        return str(key.key)
    if isinstance(key, SequenceKey):
        return str(key.idx)
    if isinstance(key, GetAttrKey):
        return str(key.name)
    return str(key)
