"""Matrices on their way to the devices that own them, and back.

One all-to-all over all mesh axes that split some matrix of a class takes the pieces of all of
them to their owners, which put whole matrices together; one takes the pieces of the results back.
Over mesh axes that split none of them every device has all there is: owners take theirs from what
they have, and results are gathered.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jopt.core.ownership.classes import Class, Member
from jopt.core.ownership.cuts import Cut, padded
from jopt.numerics import moved
from jopt.numerics.explicit import by_types, reshaped

Beside = dict[str, Array]
NONE: Mapping[str, Array] = MappingProxyType({})


def on_owners(
    f: Callable[..., tuple[Array, Beside]],
    cls: Class,
    arrays: Sequence[Array | None],
    beside: Sequence[Beside],
    like: Mapping[str, bool],
    common: Any,
    stacks: Mapping[str, Array] = NONE,
) -> tuple[list[Array], list[Beside], dict[str, Array]]:
    """`f(matrices, beside, common)` where each matrix is whole; the results where the arrays lie.

    **Arguments:**

    - `f`: from `(k, m, n)`, and a dict of `(k, ...)`, to the same, on one device, which does not
      see the others. The last of the `k` places may hold zeros: all devices have as many.
    - `arrays`: those of the class, in the order of its members. One that is missing is zeros.
    - `beside`: for each array what is kept beside its matrices, numbered as they are.
    - `like`: the names of that, and whether it is like the matrix: then it lies as that does, and
      is turned over with it. What is not is on every device.
    - `common`: a tree of arrays that every device has.
    - `stacks`: what is with the owners already, by name: of all matrices, as `Deal` has it.

    **Returns:** both results of the arrays that are there, in their order, shapes and dtypes, and
    the new stacks, in which nothing changes of matrices that are missing.
    """
    here = [i for i, x in enumerate(arrays) if x is not None]
    members = [cls.members[i] for i in here]
    lead = len(members[0].lead)
    kept = {
        name: cls if like[name] else cls.beside(x.shape[lead:]) for name, x in beside[0].items()
    }
    moves = Exchange(cls), {name: Exchange(of) for name, of in kept.items()}
    specs = tuple(member.lie.spec for member in members)
    of_kept = {name: tuple(of.members[i].lie.spec for i in here) for name, of in kept.items()}
    columns = {name: tuple(own[name] for own in beside) for name in kept}
    owned = PartitionSpec((*cls.stay, *cls.names) or None)
    of_stacks = dict.fromkeys(stacks, owned)

    def mine(arrays: Any, columns: Any, stacks: Any, common: Any) -> Any:
        of = {name: moves[1][name].to_owners(_all_of(here, x)) for name, x in columns.items()}
        x = moves[0].to_owners(_all_of(here, arrays))
        y, new = f(x, {**of, **stacks}, common)
        held = {name: moves[0].only(here, new[name], old) for name, old in stacks.items()}
        back = {name: _some(here, moves[1][name].back(new[name])) for name in columns}
        return _some(here, moves[0].back(y)), back, held

    turn = jax.shard_map(
        mine,
        mesh=cls.lie.mesh,
        in_specs=(specs, of_kept, of_stacks, jax.tree.map(lambda _: PartitionSpec(), common)),
        out_specs=(specs, of_kept, of_stacks),
        axis_names={*cls.names, *cls.stay},
        # What every device has is so by construction; `f` need not say it of its constants.
        check_vma=False,
    )
    laid = {
        name: tuple(lying_so(x, spec) for x, spec in zip(columns[name], of_kept[name], strict=True))
        for name in kept
    }
    xs = tuple(arrays[i] for i in here)
    ys, after, held = turn(xs, laid, dict(stacks), common)
    back = {
        name: [
            lying_so(x, jax.typeof(y).sharding.spec) for x, y in zip(xs, columns[name], strict=True)
        ]
        for name, xs in after.items()
    }
    return list(ys), [{name: xs[i] for name, xs in back.items()} for i in range(len(ys))], held


def _all_of(here: Sequence[int], xs: Sequence[Array]) -> dict[int, Array]:
    return dict(zip(here, xs, strict=True))


def _some(here: Sequence[int], xs: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(xs[i] for i in here)


def lying_so(x: Array, spec: PartitionSpec) -> Array:
    """`x`, which lies like this where types say how arrays lie."""
    own = jax.typeof(x).sharding
    if not by_types(x) or own.spec == spec:
        return x
    laid: Array = jax.sharding.reshard(x, own.update(spec=spec))
    return laid


class Exchange:
    """How the matrices of a class move; all of it within `shard_map` over its mesh axes."""

    def __init__(self, cls: Class) -> None:
        self.cls = cls
        self.within, self.beyond = cls.within, cls.beyond
        self.inner, self.outer = cls.lie.size(self.within), cls.lie.size(self.beyond)
        sizes = tuple(cls.lie.size((name,)) for name in self.within)
        of = [Cut(cls.shape, member.over, self.within, sizes) for member in cls.members]
        self.cuts = [*dict.fromkeys(of)]
        self.ways = [self.cuts.index(cut) for cut in of]
        pieces = {cut.piece for cut in self.cuts}
        self.piece = pieces.pop() if len(pieces) == 1 else (max(map(math.prod, pieces)),)

    def to_owners(self, arrays: Mapping[int, Array]) -> Array:
        """Whole matrices `(places, m, n)` on their owners, from each device's part of all.

        **Arguments:** `arrays`: by the number of the member; those of the others are zeros.
        """
        cls = self.cls
        dtype = next(iter(arrays.values())).dtype
        pieces = [
            self._sent(member, way, arrays[i])
            if i in arrays
            else jnp.zeros((member.count, *self.piece), dtype)
            for i, (member, way) in enumerate(zip(cls.members, self.ways, strict=True))
        ]
        x = reshaped(self._dealt(pieces), (cls.share, self.outer, self.inner, *self.piece))
        x = jax.lax.dynamic_index_in_dim(x, _at(self.beyond), 1, keepdims=False)
        x = self._exchanged(x)
        return jnp.concatenate([self._whole(x[places], places, w) for places, w in self._runs])

    def back(self, x: Array) -> tuple[Array, ...]:
        """Each device's part of all results, from whole ones on the owners."""
        made = [self._pieces(x[places], places, ways) for places, ways in self._runs]
        x = self._exchanged(jnp.concatenate(made))[:, None]
        if self.beyond:
            x = _gathered(x, self.beyond, 1)
        x = self._collected(reshaped(x, (-1, *self.piece)))
        found: list[Array] = []
        at = 0
        for way, cut in enumerate(self.cuts):
            mine = [m for m, w in zip(self.cls.members, self.ways, strict=True) if w == way]
            count = sum(m.count for m in mine)
            found += self._received(mine, cut, x[at : at + count])
            at += count
        return tuple(found)

    def only(self, here: Sequence[int], new: Array, old: Array) -> Array:
        """A device's rows of a stack, new where a row's matrix is of one of these members."""
        if len(here) == len(self.cls.members):
            return new
        of = np.repeat(np.arange(len(self.cls.members)), [m.count for m in self.cls.members])
        there = np.append(np.isin(of, here), False)[self.cls.places]
        mine = jnp.asarray(there)[:, _at(self.cls.names)]
        return jnp.where(mine.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    @property
    def _full(self) -> int:
        """How many matrices are one device's, where all have as many."""
        return self.cls.count - self.cls.count % self.cls.devices

    def _dealt(self, pieces: list[Array]) -> Array:
        """The pieces of all matrices, one of them for each place."""
        spare = int(np.sum(self.cls.places < 0))
        zeros = [jnp.zeros((spare, *self.piece), pieces[0].dtype)] if spare else []
        if self.cls.team == 1:
            return jnp.concatenate([*pieces, *zeros])
        x = jnp.concatenate(pieces)
        last = jnp.repeat(x[self._full :], self.cls.team, axis=0)
        return jnp.concatenate([x[: self._full], last, *zeros])

    def _collected(self, x: Array) -> Array:
        """One piece of each matrix, from those of all places; a team's have the same."""
        if self.cls.team == 1:
            return x
        last = x[self._full :: self.cls.team][: self.cls.count - self._full]
        return jnp.concatenate([x[: self._full], last])

    def _sent(self, member: Member, way: int, x: Array) -> Array:
        """This device's piece of each matrix of an array, `(count, *piece)`."""
        cut = self.cuts[way]
        x = reshaped(x, (member.count, *x.shape[len(member.lead) :]))
        x = x.mT if member.turned else x
        return self._level(cut.cut(x, _at(cut.spare)))

    def _received(self, members: list[Member], cut: Cut, x: Array) -> list[Array]:
        """The arrays of members that lie alike, from this device's pieces of their matrices."""
        x = self._unlevel(cut, x, 1)
        x = _gathered(x[None], cut.spare, 0) if cut.spare else x[None]
        x = cut.mended(x)
        found: list[Array] = []
        at = 0
        for member in members:
            one = x[at : at + member.count]
            one = one.mT if member.turned else one
            found.append(reshaped(one, (*member.lead, *one.shape[1:])))
            at += member.count
        return found

    def _whole(self, x: Array, places: slice, ways: tuple[int, ...]) -> Array:
        """Whole matrices from the pieces of some places, each put together its way."""
        made = [self.cuts[way].together(self._unlevel(self.cuts[way], x, 2)) for way in ways]
        return self._chosen(made, places, ways)

    def _pieces(self, x: Array, places: slice, ways: tuple[int, ...]) -> Array:
        made = [self._level(self.cuts[way].apart(x), 2) for way in ways]
        return self._chosen(made, places, ways)

    def _chosen(self, made: list[Array], places: slice, ways: tuple[int, ...]) -> Array:
        """For each place what is right on this device, where devices differ."""
        x = made[0]
        if len(made) > 1:
            own = jnp.asarray(self._way_at)[places, _at(self.cls.names)]
            own = reshaped(own, (-1, *(1,) * (x.ndim - 1)))
            for way, other in zip(ways[1:], made[1:], strict=True):
                x = jnp.where(own == way, other, x)
        return x

    @functools.cached_property
    def _way_at(self) -> Any:
        """How the matrix in each place of each device is put together, `(places, devices)`."""
        ways = np.repeat(self.ways, [member.count for member in self.cls.members])
        return ways[self.cls.places]

    @functools.cached_property
    def _runs(self) -> list[tuple[slice, tuple[int, ...]]]:
        """Places in a row that are put together alike, and in which ways."""
        of = [tuple(np.unique(row).tolist()) for row in self._way_at]
        ends = [j for j in range(1, len(of) + 1) if j == len(of) or of[j] != of[j - 1]]
        return [(slice(a, b), of[a]) for a, b in zip([0, *ends], ends, strict=False)]

    def _exchanged(self, x: Array) -> Array:
        """Every device's share of what each has for it: `(places, devices, *piece)`."""
        if not self.within:
            return x
        move = functools.partial(
            jax.lax.all_to_all, axis_name=self.within, split_axis=1, concat_axis=1, tiled=True
        )
        return moved(move, x)

    def _level(self, x: Array, lead: int = 1) -> Array:
        """Pieces in the one shape that all of the class have."""
        if x.shape[lead:] == self.piece:
            return x
        x = reshaped(x, (*x.shape[:lead], -1))
        return padded(x, self.piece[0])

    def _unlevel(self, cut: Cut, x: Array, lead: int) -> Array:
        if x.shape[lead:] == cut.piece:
            return x
        return reshaped(x[..., : math.prod(cut.piece)], (*x.shape[:lead], *cut.piece))


def _at(names: tuple[str, ...]) -> Array | int:
    """Which of the devices along these mesh axes this one is."""
    return jax.lax.axis_index(names) if names else 0


def _gathered(x: Array, names: tuple[str, ...], axis: int) -> Array:
    """What all devices along these mesh axes have, along an axis of length 1."""
    return moved(functools.partial(jax.lax.all_gather, axis_name=names, axis=axis, tiled=True), x)
