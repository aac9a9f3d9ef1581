"""Many matrices as stacks, each through the linear algebra once: here, or on their owners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jax import Array

from jopt.base import StateError
from jopt.core.algebra import Algebra, Kept
from jopt.core.on_device import on_device
from jopt.core.ownership import (
    Lie,
    OwnedStack,
    classes_of,
    in_place,
    lying_so,
    on_owners,
)

Stacks = dict[str, dict[str, OwnedStack]]
"""What is with the owners already, by class and slot."""
RESTACK = "state = jopt.sharding.to_stacks(tx, jopt.sharding.to_leaves(state), params)."


def batched(
    algebra: Algebra, xs: Sequence[Array], kept: Sequence[Kept], lies: Sequence[Lie | None]
) -> tuple[list[Array], list[Kept]]:
    """What becomes of each array of matrices, `(*lead, m, n)`, and of what is kept beside it."""
    results: dict[int, Array] = {}
    after: dict[int, Kept] = {}
    here = [i for i, lie in enumerate(lies) if lie is None]
    done = on_device(algebra, [xs[i] for i in here], [kept[i] for i in here])
    results |= zip(here, done[0], strict=True)
    after |= zip(here, done[1], strict=True)
    away = [i for i, lie in enumerate(lies) if lie is not None]
    found = [lie for lie in lies if lie is not None]
    for cls in classes_of([xs[i] for i in away], found, alike=algebra.alike):
        members = [away[member.index] for member in cls.members]
        cls, turn = algebra.turn_for(cls)
        if turn is None:
            mine = in_place(algebra.on_columns, cls, [xs[i] for i in members], algebra.arrays)
            results |= zip(members, mine, strict=True)
            after |= {i: kept[i] for i in members}
            continue
        ys, own, _ = on_owners(
            turn,
            cls,
            [xs[i] for i in members],
            [kept[i] for i in members],
            algebra.owned,
            algebra.arrays,
        )
        results |= zip(members, ys, strict=True)
        after |= zip(members, own, strict=True)
    return [results[i] for i in range(len(xs))], [after[i] for i in range(len(xs))]


def with_stacks(
    algebra: Algebra,
    xs: Sequence[Array],
    kept: Sequence[Kept],
    lies: Sequence[Lie | None],
    paths: Sequence[tuple[str, ...]],
    stacks: Stacks,
) -> tuple[list[Array], list[Kept], Stacks]:
    """The same as `batched` where these stacks have what is kept of some of the matrices."""
    kept = algebra.turned_over(xs, kept, lies)
    results: dict[int, Array] = {}
    after: dict[int, Kept] = {}
    at = {path: i for i, path in enumerate(paths)}
    new: Stacks = {}
    for name, mine in stacks.items():
        deal = next(iter(mine.values())).deal
        there = [at[owner.path] for owner in deal.owners if owner.path in at]
        new[name] = mine
        if not there:
            continue
        lie = lies[there[0]]
        if lie is None or tuple((n, lie.mesh.shape[n]) for n in lie.names) != deal.mesh:
            raise StateError(
                algebra.who,
                "its stacks are dealt out over another mesh than there is",
                expected=f"mesh axes {dict(deal.mesh)}",
                found=f"{dict(lie.mesh.shape)}" if lie else "none",
                fix=RESTACK,
            )
        cls = deal.on(lie.mesh, xs[there[0]].dtype)
        rows = [at.get(deal.owners[member.index].path) for member in cls.members]
        have = [i for i in rows if i is not None]
        arrays = [
            None if i is None else lying_so(xs[i].astype(cls.dtype), member.lie.spec)
            for i, member in zip(rows, cls.members, strict=True)
        ]
        own = {k: x.array for k, x in mine.items()}
        done = on_owners(
            algebra,
            cls,
            arrays,
            [kept[i] for i in have],
            algebra.owned,
            algebra.arrays,
            own,
        )
        results |= zip(have, done[0], strict=True)
        after |= zip(have, done[1], strict=True)
        new[name] = {k: replace(x, array=done[2][k]) for k, x in mine.items()}
    rest = [i for i in range(len(xs)) if i not in results]
    if rest:
        of = [xs[i] for i in rest], [kept[i] for i in rest], [lies[i] for i in rest]
        ys, own_of = batched(algebra, *of)
        results |= zip(rest, ys, strict=True)
        after |= zip(rest, own_of, strict=True)
    own_after = algebra.turned_over(xs, [after[i] for i in range(len(xs))], lies)
    return [results[i] for i in range(len(xs))], own_after, new
