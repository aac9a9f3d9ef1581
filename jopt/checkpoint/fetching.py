"""Leaves to the host: many small ones at once, a large one by itself."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jopt.base import CheckpointError
from jopt.checkpoint.memory import Host
from jopt.core.paths import Path, shown

LARGE = 2**20
"""From so many bytes on the time of an array goes into its bytes."""

BATCH = 2**23
"""So many bytes of smaller arrays are on their way at once."""


def fetched(who: str, leaves: Iterable[tuple[Path, Any]]) -> Iterator[Host]:
    """The arrays on the host, one after the other: native byte order, C order.

    They may share the leaves' memory. A device is asked for a batch of small ones before the first
    is waited for. What is fetched of a large one may go before the next one comes.
    """
    batch: list[Any] = []
    size = 0
    for path, leaf in leaves:
        ready, away = _ready(who, path, leaf)
        own = getattr(leaf, "nbytes", LARGE)
        if own >= LARGE or size >= BATCH:
            yield from _arrays(batch)
            size = 0
        if away:
            ready.copy_to_host_async()
        if own >= LARGE:
            yield _array(ready)
        else:
            batch.append(ready)
            size += own
        del leaf, ready
    yield from _arrays(batch)


def host(who: str, path: Path, leaf: Any) -> Host:
    """One leaf alone."""
    return _array(_ready(who, path, leaf)[0])


def another_writes(who: str, leaves: Mapping[Path, Any]) -> bool:
    """Whether these leaves are also another process's, which writes them.

    **Raises:** `CheckpointError`, in every process, for an array of which none has all.
    """
    shared = [(path, x) for path, x in leaves.items() if _is_shared(x)]
    for path, x in shared:
        _check_here(who, path, x)
    return bool(shared) and jax.process_index() != 0


def _is_shared(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
        return False
    return not _where(leaf.sharding)[0]


def _check_here(who: str, path: Path, leaf: jax.Array) -> None:
    if not leaf.is_fully_replicated:
        raise CheckpointError(
            who,
            "parts of the array live in other processes",
            path=shown(path),
            expected="an array of which this process holds all",
            found=f"{leaf.sharding}, over {jax.process_count()} processes",
            fix="Call jopt.interop.orbax.save(path, tree, tx=tx) in every process: each writes "
            "what it holds.",
        )


def _arrays(batch: list[Any]) -> Iterator[Host]:
    batch.reverse()
    while batch:
        yield _array(batch.pop())


def _array(ready: Any) -> Host:
    array = np.asarray(ready, order="C")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_known(who: str, path: Path, leaf: Any) -> None:
    """Raise `CheckpointError` for a leaf without numbers."""
    if isinstance(leaf, jax.core.Tracer):
        problem = "the leaf is being traced and has no value"
        raise CheckpointError(who, problem, path=shown(path), fix="Call it outside of jit.")
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise CheckpointError(who, "the leaf is a shape without numbers", path=shown(path))


def _ready(who: str, path: Path, leaf: Any) -> tuple[Any, bool]:
    """What NumPy can make an array of without leaving a trace on the leaf; whether it is away."""
    if not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return leaf, False
    check_known(who, path, leaf)
    assert isinstance(leaf, jax.Array)
    if leaf.is_deleted():
        raise CheckpointError(
            who,
            "the array is gone: it was donated to a compiled function",
            path=shown(path),
            fix="Save what that function returned, or take jopt.state_dict(state) before the call.",
        )
    here, away = _where(leaf.sharding)
    if not here:
        _check_here(who, path, leaf)
        leaf = leaf.addressable_data(0)  # as every process has it
        away = next(iter(leaf.devices())).platform != "cpu"
    if not away:
        return leaf, False  # NumPy sees the memory itself
    # An array keeps what jax fetches of it for as long as it lives: save would leave a
    # second state on the host. A twin over the same buffers takes its copy along.
    parts = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, parts), True


@functools.lru_cache(2**8)
def _where(sharding: Any) -> tuple[bool, bool]:
    """Whether all of an array is this process's, and whether it has to be put together or fetched.

    Fetched: from an accelerator.
    """
    devices = sharding.device_set
    away = len(devices) > 1 or any(device.platform != "cpu" for device in devices)
    return sharding.is_fully_addressable, away
