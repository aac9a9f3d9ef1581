"""How a manifest of an older format version becomes one of the present version.

A migration renames, drops or adds leaves and rewrites what is said about the transform. It sees
the manifest alone, so `jopt.load`, a scan and the command line all get its names, and the numbers
are read and checked where the old file has them. What it adds has a value that the manifest
determines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint import manifest as present
from jopt.checkpoint.leaves import DTYPES, Kind
from jopt.checkpoint.manifest import Manifest
from jopt.checkpoint.rounds import rounds_of_version_1
from jopt.core.given import UNKNOWN
from jopt.core.groups import DEFAULT
from jopt.core.paths import Path, shown


def from_1_to_2(old: Manifest) -> Manifest:
    """Rounds are kept as sums, and nodes say which numbers were given and how old they are."""
    return _given(rounds_of_version_1(old))


def _given(old: Manifest) -> Manifest:
    """Every node with numbers says what its transform was built with, and how old it is.

    Version 1 did not write it down: the numbers are unknown, so that those of the state stand,
    and a step count that nothing needed starts at 0.
    """
    kinds = {path: entry.kind for path, entry in old.leaves.items()}
    numbers: dict[Path, list[Kind]] = {}
    nodes: dict[Path, Kind] = {}
    for path, kind in kinds.items():
        if _is_number(path, kinds):
            numbers.setdefault(path[:-3], []).append(kind)
            nodes[path[:-3]] = kind
        elif len(path) > 3 and path[-4:-2] == ("schedules", DEFAULT) and path[-1] == "value":
            nodes[path[:-4]] = kind
    added = {}
    for node, kind in nodes.items():
        if kind.shape is not None and "float" in kind.dtype:
            added[(*node, "count")] = np.zeros(kind.shape, np.int32)
    for node, those in numbers.items():
        # Those of many runs have a first axis, in some states only those that differ.
        shape = max((k.shape or () for k in those), key=len)
        if all(k.shape in ((), shape) and "float" in k.dtype for k in those):
            dtype = DTYPES[those[0].dtype]
            added[(*node, "given")] = np.full((*shape, len(those)), UNKNOWN).astype(dtype)
    return old.extended(added)


def _is_number(path: Path, kinds: Mapping[Path, Kind]) -> bool:
    # Every number stands in the default group; another library's `hyperparams` has no groups.
    return len(path) > 2 and path[-3] == "hyperparams" and (*path[:-2], DEFAULT, path[-1]) in kinds


MIGRATIONS: dict[int, Callable[[Manifest], Manifest]] = {1: from_1_to_2}
"""From each version before the present one to the next."""


def migrate(manifest: Manifest) -> Manifest:
    """The manifest as the present version would name its leaves; `version` stays the file's."""
    for version in range(manifest.version, present.VERSION):
        manifest = MIGRATIONS[version](manifest)
    return manifest


def migrated(
    who: str, manifest: Manifest, path: Path, array: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The numbers of a leaf as the present version means them."""
    if path in manifest.factors:
        np.multiply(array, array.dtype.type(manifest.factors[path]), out=array)
    if path in manifest.at_zero and np.any(array):
        raise CheckpointError(
            who,
            "this file stands in the middle of a round of accumulate, and does not say how long "
            "the round is",
            path=shown(path),
            expected="0, or a file that was saved with tx=",
            found=array.reshape(-1)[:1].tolist()[0],
            fix="Let the jopt that wrote it end the round, or save it with tx=.",
        )
    return array
