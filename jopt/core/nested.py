"""Nested dicts keyed by strings, which states are: built of paths, looked into, merged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jopt.core.paths import Path


def nest(paths: Iterable[Path], values: Iterable[Any]) -> Any:
    """A nested dict with each value at its path; the value itself where the path is empty."""
    root: dict[str, Any] = {}
    for path, value in zip(paths, values, strict=True):
        if not path:
            return value
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return root


def lookup(tree: Any, path: Path) -> Any:
    """What stands at `path` in a nested dict; raises `KeyError` if nothing does."""
    for key in path:
        if not isinstance(tree, dict):
            raise KeyError(key)
        tree = tree[key]
    return tree


def has(tree: Any, path: Path) -> bool:
    """Whether something stands at `path` in a nested dict."""
    for key in path:
        if not isinstance(tree, dict) or key not in tree:
            return False
        tree = tree[key]
    return tree is not None


def flatten_dict(tree: Any, prefix: Path = ()) -> dict[Path, Any]:
    """Every leaf of a nested dict by its path, in sorted order; empty dicts have no leaf."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[Path, Any] = {}
    for key in sorted(tree):
        flat.update(flatten_dict(tree[key], (*prefix, key)))
    return flat


def merged(new: Any, old: Any) -> Any:
    """The nested dict `new`, with the leaves that `old` has as well taken from there."""
    if isinstance(new, dict) and isinstance(old, dict):
        return {k: merged(v, old[k]) if k in old else v for k, v in new.items()}
    return new if isinstance(new, dict) or isinstance(old, dict) else old
