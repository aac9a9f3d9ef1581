"""Matrices that are too large, and too few, to be any one device's: worked on where they lie.

Each device has columns of every matrix of the class: what splits the shorter side changes places
with a part of the longer one, and what every device has it takes its part of. `costs` says when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from jopt.core.ownership.classes import Class, Member
from jopt.numerics.explicit import reshaped


def in_place(
    f: Callable[..., Array], cls: Class, arrays: Sequence[Array], common: Any
) -> list[Array]:
    """`f(columns, common, names)` on each device's columns of all matrices, `(k, m, n / D)`.

    **Arguments:** as those of `on_owners`; `names` are the mesh axes over which the columns are.
    """
    specs = tuple(member.lie.spec for member in cls.members)

    def mine(arrays: tuple[Array, ...], common: Any) -> tuple[Array, ...]:
        parts = [_columns(cls, *of) for of in zip(cls.members, arrays, strict=True)]
        made = f(jnp.concatenate(parts), common, cls.names).astype(cls.dtype)
        counts = [len(x) for x in parts]
        rows = jnp.split(made, [sum(counts[:i]) for i in range(1, len(counts))])
        return tuple(_back(cls, *of) for of in zip(cls.members, rows, strict=True))

    turn = jax.shard_map(
        mine,
        mesh=cls.lie.mesh,
        in_specs=(specs, jax.tree.map(lambda _: PartitionSpec(), common)),
        out_specs=specs,
        axis_names={*cls.names, *cls.stay},
        check_vma=False,
    )
    return list(turn(tuple(arrays), common))


def _columns(cls: Class, member: Member, x: Array) -> Array:
    x = reshaped(x, (member.count, *x.shape[len(member.lead) :]))
    x = x.mT if member.turned else x
    for name in reversed(member.over[0]):  # the last one splits finest
        x = jax.lax.all_to_all(x, name, split_axis=2, concat_axis=1, tiled=True)
    if spare := _spare(cls, member):
        size = x.shape[2] // cls.lie.size(spare)
        at = jax.lax.axis_index(spare) * size
        x = jax.lax.dynamic_slice_in_dim(x, at, size, axis=2)
    return x


def _back(cls: Class, member: Member, x: Array) -> Array:
    if spare := _spare(cls, member):
        x = jax.lax.all_gather(x, spare, axis=2, tiled=True)
    for name in member.over[0]:
        x = jax.lax.all_to_all(x, name, split_axis=1, concat_axis=2, tiled=True)
    x = x.mT if member.turned else x
    return reshaped(x, (*member.lead, *x.shape[1:]))


def _spare(cls: Class, member: Member) -> tuple[str, ...]:
    """The mesh axes over which every device has the same."""
    taken = {name for names in member.over for name in names}
    return tuple(name for name in cls.names if name not in taken)
