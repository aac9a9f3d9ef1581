"""A host array as its target is: dtype, devices and sharding."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding, SingleDeviceSharding

from jopt.base import CheckpointError
from jopt.checkpoint.fetching import BATCH, LARGE, fetched
from jopt.checkpoint.leaves import DTYPES, Kind, kinds_of
from jopt.checkpoint.memory import compact
from jopt.core.paths import Path, shown

MANY, CALL = 1024, 128
"""From how many arrays of one shape on a call is compiled that takes so many of them."""

_ON_DEVICES = jax.Array, jax.ShapeDtypeStruct


def snapshots(who: str, leaves: Mapping[Path, Any], paths: Iterable[Path]) -> Iterator[Any]:
    """These leaves on the host, sharing memory with nothing."""
    kinds = kinds_of(who, leaves)
    chosen = list(paths)
    arrays = fetched(who, ((p, leaves[p]) for p in chosen if kinds[p].shape is not None))
    for path in chosen:
        leaf = leaves[path]
        if kinds[path].shape is None:
            yield {} if type(leaf) is dict else leaf
        else:
            yield np.array(next(arrays), order="C")


def placed(
    who: str, values: Iterable[tuple[Path, Any]], targets: Mapping[Path, Any]
) -> Iterator[tuple[Path, Any]]:
    """Host leaves as their targets are: NumPy, or on the devices and with the sharding they have.

    The values must be the caller's to give away: on the CPU the arrays may keep their memory.
    Small ones go to the devices many at a time, large ones each by itself.
    """
    waiting = _Waiting(who)
    devices: set[type] = set()  # the types met: to ask jax of each leaf takes longer than the rest
    for path, value in values:
        target = targets.get(path)
        sort = type(target)
        if sort not in devices:
            if sort is np.ndarray or not isinstance(target, _ON_DEVICES):
                yield path, value
                continue
            if not issubclass(sort, jax.core.Tracer):  # of those jax decides one by one
                devices.add(sort)
        if type(value) is not np.ndarray and isinstance(value, jax.Array):
            yield path, value  # who read it has put it there
            continue
        sharding = _sharding(target) if sort in devices else None
        if value.dtype.itemsize > 4:
            _check_width(who, path, value)
        if value.nbytes >= LARGE or not _is_joint(sharding):
            yield path, _put(who, path, value, sharding)
        elif waiting.add(path, value, sharding):
            yield from waiting.put()
        del value  # its memory, where it was copied, is for the next
    yield from waiting.put()


def place(who: str, path: Path, value: Any, target: Any) -> Any:
    """One leaf alone."""
    return dict(placed(who, [(path, value)], {path: target}))[path]


def _check_width(who: str, path: Path, value: Any) -> None:
    if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        raise CheckpointError(
            who,
            f"jax cannot hold {value.dtype} here",
            path=shown(path),
            fix='Turn it on: jax.config.update("jax_enable_x64", True).',
        )


def _is_joint(sharding: Any) -> bool:
    """Whether jax may be asked for many arrays at once: all of their parts belong to here."""
    if sharding is None or isinstance(sharding, SingleDeviceSharding):
        return True
    if isinstance(getattr(sharding, "mesh", None), AbstractMesh):
        return False
    return bool(sharding.is_fully_addressable)


class _Waiting:
    """Small arrays that go to the devices together: those of one kind in as few calls as may be."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._size = 0
        self._alike: dict[Any, tuple[Any, list[Path], list[Any]]] = {}
        self._known: dict[int, tuple[Any, Any]] = {}
        self._shardings: dict[Any, Any] = {}

    def add(self, path: Path, value: Any, sharding: Any) -> bool:
        """Let an array wait; whether there are enough of them now."""
        if sharding is not None:
            sharding = self._same(sharding)
        kind = value.shape, value.dtype, id(sharding)
        group = self._alike.get(kind)
        if group is None:
            group = self._alike[kind] = sharding, [], []
        group[1].append(path)
        group[2].append(value)
        self._size += value.nbytes
        return self._size >= BATCH

    def _same(self, sharding: Any) -> Any:
        """The first sharding that is equal: its own hash takes longer than all else here."""
        known = self._known.get(id(sharding))
        if known is None:
            # Both are held, so that no other object has the number of one.
            known = sharding, self._shardings.setdefault(sharding, sharding)
            self._known[id(sharding)] = known
        return known[1]

    def put(self) -> Iterator[tuple[Path, Any]]:
        """All that wait, on the devices."""
        groups, self._alike, self._size = self._alike.values(), {}, 0
        loose: dict[bool, list[tuple[Path, Any, Any]]] = {True: [], False: []}
        for sharding, paths, arrays in groups:
            if len(paths) < MANY:
                each = zip(paths, arrays, itertools.repeat(sharding), strict=False)
                loose[sharding is None] += each
                continue
            put = _passed(sharding)
            for i in range(0, len(paths), CALL):
                some = arrays[i : i + CALL]
                some += [some[0]] * (CALL - len(some))  # one shape of call, compiled once
                yield from self._by(put, paths[i : i + CALL], some, sharding)
        for free, items in loose.items():
            if items:
                paths, arrays, shardings = map(list, zip(*items, strict=True))
                put = partial(jax.device_put, device=None if free else shardings)
                yield from self._by(put, paths, arrays, shardings)

    def _by(
        self, put: Callable[[list[Any]], Any], paths: list[Path], arrays: list[Any], sharding: Any
    ) -> Iterator[tuple[Path, Any]]:
        try:
            done = put(arrays)
        except (ValueError, TypeError, NotImplementedError):
            each = sharding if isinstance(sharding, list) else [sharding] * len(paths)
            triples = zip(paths, arrays, each, strict=False)
            done = [_put(self._who, *item) for item in triples]  # says of one what is wrong
        return zip(paths, done, strict=False)


def _passed(sharding: Any) -> Callable[[list[Any]], Any]:
    # A compiled call takes a NumPy array at an eighth of what device_put costs, which for small
    # ones is all of the time; to compile it, once for a shape, costs as much as a thousand.
    through = jax.jit(_same) if sharding is None else jax.jit(_same, out_shardings=sharding)
    return lambda values: through(*values)


def _same(*arrays: Any) -> tuple[Any, ...]:
    return arrays


def _put(who: str, path: Path, value: Any, sharding: Any) -> Any:
    if sharding is None:
        return jax.device_put(value)
    try:
        # Each device is sent its own part and nothing else, and each process only asks for the
        # parts of its own devices.
        return jax.make_array_from_callback(
            value.shape, sharding, lambda index: compact(np.asarray(value[index]))
        )
    except (ValueError, TypeError, NotImplementedError) as error:
        abstract = isinstance(getattr(sharding, "mesh", None), AbstractMesh)
        raise CheckpointError(
            who,
            "the array cannot be placed as `like` asks"
            + (": its mesh has no devices" if abstract else f" ({error})"),
            path=shown(path),
            expected=sharding,
            found=f"{value.dtype} {value.shape}",
            fix="Load within jax.set_mesh(mesh), or let `like` have arrays." if abstract else None,
        ) from error


def _sharding(target: Any) -> Any:
    """Where a leaf of `like` wants to be; `None` where jax may choose."""
    # An array that jax was free to move stays so: committing it would compile everything anew.
    if not getattr(target, "committed", True):
        return None
    sharding = target.sharding
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, AbstractMesh):
        # Of arrays on an explicit mesh, eval_shape keeps the mesh without its devices.
        mesh = jax.sharding.get_mesh()
        return sharding.update(mesh=mesh) if sharding.mesh == mesh.abstract_mesh else sharding
    return sharding


def castable(want: Kind, have: Kind) -> bool:
    """Whether numbers of one kind may be cast to the other: same shape, same sort of number."""
    if want.shape is None or want.shape != have.shape:
        return False
    sorts = [_sort(DTYPES[kind.dtype]) for kind in (want, have)]
    return sorts[0] is not None and sorts[0] == sorts[1]


def cast_to(dtype: str, value: Any) -> tuple[Any, str | None]:
    """The array in another dtype, and what is wrong if a number has no place there."""
    to = DTYPES[dtype]
    if _sort(to) == "integer":
        info = jnp.iinfo(to)
        low, high = (int(value.min()), int(value.max())) if value.size else (0, 0)
        fits = info.min <= low and high <= info.max
        problem = f"from {low} to {high}, and {dtype} holds {info.min} to {info.max}"
        return value.astype(to), None if fits else problem
    with np.errstate(all="ignore"):
        new = value.astype(to)
    lost = np.isfinite(value) & ~np.isfinite(new)
    if not lost.any():
        return new, None
    largest = np.abs(value[lost]).max()
    return new, f"{int(lost.sum())} of {value.size} overflow {dtype}, the largest {largest:.6g}"


def _sort(dtype: np.dtype[Any]) -> str | None:
    for sort, kind in (("integer", jnp.integer), ("complex", jnp.complexfloating)):
        if jnp.issubdtype(dtype, kind):
            return sort
    # Of a float that has neither inf nor NaN, an overflow could not be seen.
    return "float" if jnp.issubdtype(dtype, jnp.floating) and _overflows(dtype) else None


def _overflows(dtype: np.dtype[Any]) -> bool:
    with np.errstate(all="ignore"):
        return not bool(np.isfinite(np.array(np.inf).astype(dtype)))
