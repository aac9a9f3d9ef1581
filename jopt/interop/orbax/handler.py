"""What orbax calls to store and restore one tree with jopt's manifest."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint.config import describe
from jopt.checkpoint.decoding import manifest_in
from jopt.checkpoint.fetching import check_known
from jopt.checkpoint.fitting import Changes, Keep, Rename
from jopt.checkpoint.leaves import DTYPES, Kind, flatten, join, kinds_of
from jopt.checkpoint.loading import plan_stored
from jopt.checkpoint.manifest import (
    ArrayEntry,
    Entry,
    Manifest,
    ValueEntry,
    blank,
    damaged,
)
from jopt.checkpoint.migrations import migrate
from jopt.core import Transform
from jopt.core.nested import nest
from jopt.core.paths import Path, pointer, shown
from jopt.core.tree import Tree
from jopt.interop.orbax.sums import checksum

try:
    import orbax.checkpoint as ocp
    import tensorstore
except ImportError as error:
    raise ImportError(
        "jopt.interop.orbax needs orbax-checkpoint: pip install 'jopt[orbax]'"
    ) from error

FILE = "jopt.json"
"""Beside orbax's own files: the manifest and the checksums."""


@dataclass
class Save(ocp.args.CheckpointArgs):  # type: ignore[misc]
    """What to save: `manager.save(step, args=Save(tree, tx=tx))`.

    **Attributes:** `item`: a tree as for `jopt.save`, sharded over processes or not; `tx`: the
    transform of the state, whose configuration is recorded.
    """

    item: Tree
    tx: Transform | None = None

    def __post_init__(self) -> None:
        # Now, before orbax makes a folder that it would leave behind.
        _described("Save", flatten("Save", self.item), self.tx)


@dataclass
class Restore(ocp.args.CheckpointArgs):  # type: ignore[misc]
    """What to restore, and how: `manager.restore(step, args=Restore(like, tx=tx))`.

    **Attributes:** as the arguments of `jopt.load`. Leaves take the shardings of `item`, on any
    mesh; without an `item` they are NumPy arrays in nested dicts.
    """

    item: Tree = None
    tx: Transform | None = None
    strict: bool = True
    rename: Rename = None
    keep: Keep = None
    cast: bool = False


class Handler(ocp.AsyncCheckpointHandler):  # type: ignore[misc]
    """Stores arrays as orbax does, in any layout over any hosts, and a manifest beside them.

    `ocp.CheckpointManager` and `ocp.AsyncCheckpointer(Handler())` take it. Saving copies the
    arrays off the devices before it returns, so the next step may donate them. orbax alone reads
    the arrays too, as a nested dict.

    The arrays are written by `ocp.PyTreeCheckpointHandler`, the manifest by
    `ocp.JsonCheckpointHandler`. Python values and arrays without elements, which orbax refuses,
    are in the manifest.
    """

    def __init__(self) -> None:
        self._arrays = ocp.PyTreeCheckpointHandler()
        self._json = ocp.JsonCheckpointHandler(filename=FILE)

    async def async_save(self, directory: Any, args: Save) -> Any:
        """Copies everything, and gives back what is still to be awaited."""
        who = "Save"
        leaves = flatten(who, args.item)
        manifest, stored = _described(who, leaves, args.tx)
        # The sums stand beside the manifest: its own would need the bytes in order.
        sums = {pointer(path): checksum(leaves[path]) for path in stored}
        said = {"jopt": base64.b64encode(manifest).decode(), "sums": sums}
        futures = await self._json.async_save(directory, args=ocp.args.JsonSave(said))
        if stored:
            tree = nest([path or ("",) for path in stored], [leaves[path] for path in stored])
            arrays = await self._arrays.async_save(directory, args=ocp.args.PyTreeSave(tree))
            futures = [*futures, *(arrays or [])]
        return futures

    def save(self, directory: Any, args: Save) -> None:
        """The same, waiting for the end."""
        for future in asyncio.run(self.async_save(directory, args)):
            future.result()

    def restore(self, directory: Any, args: Restore | None = None) -> Any:
        """The tree; with `strict=False` the pair of tree and report."""
        args = args or Restore()
        who = f"restore({str(directory)!r})"
        manifest, sums = manifest_of(who, self._read_json(who, directory))
        kinds = {path: entry.kind for path, entry in manifest.leaves.items()}
        changes = Changes(args.rename, args.keep, args.cast)
        recorded = manifest.transform
        made = plan_stored(who, args.item, kinds, changes, args.strict, args.tx, recorded)
        targets: Mapping[Path, Any] = made.targets or {}
        # What is cast is cast on the host, where numbers that overflow are seen.
        wanted = {
            path: None if to in made.casts else targets.get(to)
            for path in manifest.in_file
            if (name := manifest.name_of(path)) is not None
            and (to := made.goes.get(name)) is not None
        }
        arrays = self._read_arrays(who, directory, manifest.in_file, wanted)

        def leaves() -> Iterator[tuple[Path, Any]]:
            yield from ((path, value.copy()) for path, value in manifest.added.items())
            for path in wanted:
                entry, name = manifest.in_file[path], manifest.name_of(path)
                assert name is not None
                if isinstance(entry, ValueEntry):
                    yield name, entry.value
                elif path not in arrays:
                    yield name, np.zeros(entry.shape, DTYPES[entry.dtype])
                else:
                    value = arrays.pop(path)
                    _verify(who, path, entry, value, sums.get(pointer(path)))
                    yield name, value

        return made.loaded(who, leaves(), args.tx)

    def metadata(self, directory: Any) -> Any:
        """orbax's own description of the arrays."""
        return self._arrays.metadata(directory)

    def finalize(self, directory: Any) -> None:
        """Called by orbax once all processes have written."""
        if (directory / "manifest.ocdbt").exists() or any(directory.glob("ocdbt.process_*")):
            self._arrays.finalize(directory)

    def close(self) -> None:
        """Lets go of orbax's threads."""
        self._arrays.close()
        self._json.close()

    def _read_json(self, who: str, directory: Any) -> Any:
        try:
            return self._json.restore(directory)
        except FileNotFoundError:
            fix = "Restore what orbax alone has written with orbax, then jopt.load_state_dict."
            raise CheckpointError(who, "this is no checkpoint of jopt's handler", fix=fix) from None
        except Exception as error:  # not JSON, a folder, not to be read
            raise damaged(who, f"{FILE} cannot be decoded ({error})") from error

    def _read_arrays(
        self, who: str, directory: Any, entries: Mapping[Path, Entry], wanted: Mapping[Path, Any]
    ) -> dict[Path, Any]:
        paths = [path for path, entry in entries.items() if _is_stored(entry.kind)]
        if not any(path in wanted for path in paths):
            return {}
        items, how = [], []
        for path in paths:
            sharding = _sharding(wanted.get(path))
            kind = entries[path].kind
            items.append(
                jax.ShapeDtypeStruct(kind.shape or (), DTYPES[kind.dtype])
                if path in wanted
                else ocp.PLACEHOLDER
            )
            how.append(
                ocp.RestoreArgs(restore_type=np.ndarray)
                if sharding is None
                else ocp.ArrayRestoreArgs(restore_type=jax.Array, sharding=sharding)
            )
        named = [path or ("",) for path in paths]
        asked = ocp.args.PyTreeRestore(item=nest(named, items), restore_args=nest(named, how))
        try:
            found = flatten(who, self._arrays.restore(directory, args=asked))
        except Exception as error:  # of tensorstore, JSON, orbax: all mean an unreadable file
            raise damaged(who, f"orbax says: {type(error).__name__}: {error}") from error
        return {path: found[n] for path, n in zip(paths, named, strict=True) if path in wanted}


ocp.args.register_with_handler(Handler, for_save=True)(Save)
ocp.args.register_with_handler(Handler, for_restore=True)(Restore)


def _is_stored(kind: Kind) -> bool:
    """Whether orbax stores it: arrays with elements."""
    return kind.shape is not None and 0 not in kind.shape


def _described(
    who: str, leaves: Mapping[Path, Any], tx: Transform | None
) -> tuple[bytes, list[Path]]:
    """The manifest as it is stored, and what orbax gets; an error if it cannot take a leaf."""
    kinds, stored = _stored(who, leaves)
    try:
        return Manifest(blank(leaves, kinds), describe(who, tx)).pack(), stored
    except (OverflowError, UnicodeEncodeError) as error:
        raise CheckpointError(who, f"a leaf has no place in a file ({error})") from None


def _stored(who: str, leaves: Mapping[Path, Any]) -> tuple[dict[Path, Kind], list[Path]]:
    """The kinds of all leaves, and which of them orbax gets; an error if it cannot take one."""
    kinds = kinds_of(who, leaves)
    stored = [path for path, kind in kinds.items() if _is_stored(kind)]
    for path in stored:
        check_known(who, path, leaves[path])
    gone = [
        shown(path)
        for path in stored
        if isinstance(leaves[path], jax.Array) and leaves[path].is_deleted()
    ]
    if gone:
        fix = "Save what that function returned."
        raise CheckpointError(
            who, join("these arrays were donated to a compiled function", gone), fix=fix
        )
    unfit = [f"{shown(p)}: {d}" for p in stored if not _has(d := kinds[p].dtype)]
    if unfit:
        fix = "Cast them, or use jopt.save, which has all dtypes."
        raise CheckpointError(who, join("orbax has no such dtypes", unfit), fix=fix)
    # orbax joins keys by dots: two leaves of one name would overwrite each other.
    seen: dict[str, Path] = {}
    for path in stored:
        other = seen.setdefault(".".join(path), path)
        if other != path:
            problem = "orbax has one name for two leaves"
            found = f"{shown(other)} and {shown(path)}"
            raise CheckpointError(who, problem, found=found, fix="Rename a key with a dot.")
    return kinds, stored


def _has(dtype: str) -> bool:
    try:
        tensorstore.dtype(dtype)
    except (TypeError, ValueError):
        return False
    return True


def manifest_of(who: str, said: Any) -> tuple[Manifest, dict[str, str]]:
    """The manifest and the checksums in what `FILE` says."""
    try:
        text, sums = said["jopt"], said["sums"]
    except (KeyError, TypeError) as error:
        raise damaged(who, f"the manifest cannot be decoded ({error})") from None
    if not isinstance(sums, dict):
        raise damaged(who, "the manifest is not as it was written")
    return migrate(manifest_in(who, text)), sums


def _sharding(target: Any) -> Any:
    if isinstance(target, jax.ShapeDtypeStruct):
        return target.sharding
    return target.sharding if isinstance(target, jax.Array) and target.committed else None


def _verify(who: str, path: Path, entry: ArrayEntry, value: Any, expected: str | None) -> None:
    kind = Kind(np.dtype(value.dtype).name, tuple(value.shape))
    if kind != entry.kind:
        facts = {"expected": str(entry.kind), "found": str(kind)}
        raise damaged(who, "an array is not what the manifest says", path=shown(path), **facts)
    found = checksum(value)
    if found != expected:
        what = "the numbers of an array do not match their checksum"
        facts = {"expected": str(expected), "found": found}
        raise damaged(who, what, path=shown(path), **facts)
