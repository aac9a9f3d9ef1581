"""Numbers that a loaded state takes from the transform that it is loaded for.

A state says with which numbers its transform was built (`given`). Where the transform that it is
loaded for was built with another one, that number will rule: see `core.given`. The loaded state
has it at once, so that `jopt.hyperparams` tells what the next update uses. Which numbers those
are is known from `tx`, or from the `given` of `like`. Without a `like` a load gives what is in the
file, and says which numbers will rule.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jopt.checkpoint.placing import place
from jopt.core import Transform
from jopt.core.given import KINDS, as_vector, stands
from jopt.core.numbers import plain_numbers
from jopt.core.part import SpecPart
from jopt.core.paths import Path, shown
from jopt.core.transform import Part

LOGGER = logging.getLogger("jopt")


def renew(
    who: str,
    new: dict[Path, Any],
    targets: Mapping[Path, Any] | None,
    taken: Collection[Path],
    tx: Transform | None = None,
) -> list[str]:
    """Put the numbers that rule into `new`, and say of each what was found and what holds.

    **Arguments:** `new`, the leaves of the loaded tree; `targets`, those of `like`, if there is one
    (else `new` stays as it is); `taken`, the paths of those that came from the state; `tx`, the
    transform.
    """
    told: list[str] = []
    built = {} if tx is None else dict(_built(tx.parts))
    like = targets or {}
    for node, paths in _numbers(new).items():
        at = (*node, "given")
        known = [built[node[i:]] for i in range(len(node)) if node[i:] in built]
        mine = _vector(known[0] if known else like.get(at), paths)
        theirs = _vector(new.get(at), paths)
        if at not in taken or mine is None or theirs is None or mine.shape != theirs.shape:
            continue
        narrow = min(mine.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
        changed = ~stands(theirs.astype(narrow), mine.astype(narrow)) & ~np.isnan(mine)
        for i, path in enumerate(paths):
            if path not in taken or not changed[..., i].any():
                continue
            found = np.asarray(new[path])
            if found.shape != mine.shape[:-1]:
                continue
            value = np.where(changed[..., i], mine[..., i], found).astype(found.dtype)
            if targets is not None:
                new[path] = place(who, path, value, targets[path])
            told.append(f"{shown(path)}: found {_text(found)}, {_text(value)} holds")
        if changed.any() and targets is not None:
            both = np.where(changed, mine, theirs).astype(theirs.dtype)
            new[at] = place(who, at, both, targets[at])
    for line in told:
        LOGGER.warning("%s: %s: the transform was built with another number since", who, line)
    return told


def _built(parts: Mapping[str, Part], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The numbers that each part was built with, by the path of its node."""
    for label, part in parts.items():
        if isinstance(part, SpecPart):
            yield (*above, label), as_vector(plain_numbers(part.numbers, part.groups))
        yield from _built(part.wrapped, (*above, label, "inner"))


def _numbers(leaves: Mapping[Path, Any]) -> dict[Path, list[Path]]:
    """The paths of the numbers of each node that says what its transform was built with."""
    found: dict[Path, list[Path]] = {path[:-1]: [] for path in leaves if path[-1:] == ("given",)}
    if found:
        for path in leaves:
            if len(path) > 2 and path[-3] in KINDS and path[:-3] in found:
                found[path[:-3]].append(path)
    # In the order of `given`: by group and name.
    return {node: sorted(paths, key=lambda p: p[-2:]) for node, paths in found.items() if paths}


def _vector(given: Any, paths: list[Path]) -> np.ndarray[Any, Any] | None:
    """A `given` entry whose numbers can be looked at here."""
    if isinstance(given, jax.core.Tracer) or not isinstance(given, jax.Array | np.ndarray):
        return None
    if isinstance(given, jax.Array) and not (
        given.is_fully_addressable or given.is_fully_replicated
    ):
        return None
    row: np.ndarray[Any, Any] = np.asarray(given)
    fits = row.ndim > 0 and row.shape[-1] == len(paths)
    return row if fits and np.issubdtype(row.dtype, np.floating) else None


def _text(value: np.ndarray[Any, Any]) -> str:
    # The shortest text that is this number in its own dtype, whatever the width.
    return str(value[()]) if value.ndim == 0 else f"{value.size} numbers"
