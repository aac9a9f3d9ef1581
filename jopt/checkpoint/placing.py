"""A host array as its target is: dtype, devices and sharding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding, SingleDeviceSharding

from jopt.base import CheckpointError
from jopt.checkpoint.fetching import BATCH, LARGE, fetched
from jopt.checkpoint.leaves import DTYPES, Kind, kinds_of
from jopt.checkpoint.memory import compact
from jopt.core.tree import Path, shown

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
    batch: list[tuple[Path, Any, Any]] = []
    size = 0
    for path, value in values:
        target = targets.get(path)
        if (
            type(target) is np.ndarray
            or not isinstance(target, _ON_DEVICES)
            # A jax array was put there by who read it.
            or (type(value) is not np.ndarray and isinstance(value, jax.Array))
        ):
            yield path, value
            continue
        if value.dtype.itemsize > 4:
            _check_width(who, path, value)
        sharding = _sharding(target)
        if value.nbytes >= LARGE or not _is_joint(sharding):
            yield path, _put(who, path, value, sharding)
        else:
            batch.append((path, value, sharding))
            size += value.nbytes
        del value  # its memory, where it was copied, is for the next
        if size >= BATCH:
            yield from _put_together(who, batch)
            batch, size = [], 0
    yield from _put_together(who, batch)


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


def _put_together(who: str, batch: list[tuple[Path, Any, Any]]) -> Iterator[tuple[Path, Any]]:
    alike: dict[Any, list[tuple[Path, Any, Any]]] = defaultdict(list)
    for item in batch:
        _, value, sharding = item
        alike[value.shape, value.dtype, sharding].append(item)
    calls: list[tuple[list[tuple[Path, Any, Any]], Callable[[list[Any]], Any]]] = []
    rest: dict[bool, list[tuple[Path, Any, Any]]] = {True: [], False: []}
    for (_, _, sharding), some in alike.items():
        whole = len(some) - len(some) % CALL if len(some) >= MANY else 0
        if whole:
            put = _passed(sharding)
            calls += [(some[i : i + CALL], put) for i in range(0, whole, CALL)]
        rest[sharding is None] += some[whole:]
    for some, put in (
        *calls,
        (rest[True], jax.device_put),
        (rest[False], lambda values: jax.device_put(values, [s for _, _, s in rest[False]])),
    ):
        try:
            arrays = put([value for _, value, _ in some]) if some else []
        except (ValueError, TypeError, NotImplementedError):
            arrays = [_put(who, *item) for item in some]  # which says of one what is wrong
        yield from zip([path for path, _, _ in some], arrays, strict=True)


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
    if isinstance(target, jax.core.Tracer) or not getattr(target, "committed", True):
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
