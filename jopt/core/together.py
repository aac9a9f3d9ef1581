"""Small leaves whose slots are codes of eight bits, stepped as one: for CPUs.

There XLA makes a kernel of every result of every leaf. To decode and to encode is as many
operations for a small matrix as for a large one, and its passes go over all of them: they are what
one waits for. Blocks know nothing of the leaf that they are in but where in it they are. Those of
many leaves lie one after the other in one array here, the rule runs on that, and each leaf gets its
part of what comes out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.core.codecs import Codec, Int8, seed_of
from jopt.core.kernels import fits
from jopt.core.leaf import Leaf, Outcome
from jopt.core.slots import Store
from jopt.core.spec import Slot
from jopt.numerics.blocks import of_blocks, scales, to_codes
from jopt.numerics.dither import GOLDEN, turned
from jopt.numerics.explicit import by_types, may_be_split
from jopt.numerics.pieces import SMALL
from jopt.numerics.repeated import traced

MOST = 16 * SMALL
"""So many entries are stepped as one, at most: they and what is made of them are copied."""

Apply = Callable[..., tuple[Array, dict[str, Array]]]
"""`apply(g, slots, p, numbers)`: the rule, see `one_leaf`."""
Stepped = tuple[Array, dict[str, Any]]
"""A leaf's update, and what its slots are stored as."""


def ran(
    leaves: Sequence[Leaf], store: Store, apply: Apply, alone: Callable[..., Stepped]
) -> dict[int, Outcome]:
    """What comes out of those of the leaves that a CPU steps as one, by their places.

    `alone(leaf, g, p, stored, numbers, step)` steps one of them where this is no CPU.
    """
    found: dict[int, Outcome] = {}
    for mine in sets(store.codec, store.slots, leaves):
        some = [leaves[i] for i in mine]
        arrays = [(x.g, x.p, dict(x.stored)) for x in some]

        def each(arrays: Any, numbers: Any, step: Array, some: Any = some) -> list[Stepped]:
            rows = zip(some, arrays, numbers, strict=True)
            return [alone(leaf, *own, row, step) for leaf, own, row in rows]

        as_one = functools.partial(_as_one, apply, store.codec, store.slots)
        numbers = [x.numbers for x in some]
        done = jax.lax.platform_dependent(arrays, numbers, some[0].step, cpu=as_one, default=each)
        found |= {i: Outcome(u, stored=new) for i, (u, new) in zip(mine, done, strict=True)}
    return found


def sets(codec: Codec, slots: Sequence[Slot], leaves: Sequence[Leaf]) -> list[list[int]]:
    """Which leaves are stepped as one: small ones, of one kind, that read the same numbers."""
    kinds: dict[Any, list[int]] = {}
    sizes: dict[Any, int] = {}
    for i, leaf in enumerate(leaves):
        if not _joins(codec, slots, leaf):
            continue
        # What is no number is one dict for all that read the same numbers, see `handed_out`.
        kind = leaf.g.dtype, leaf.p.dtype, leaf.p.ndim, leaf.numbers.names, id(leaf.numbers.rest)
        sizes[kind] = sizes.get(kind, 0) + leaf.p.size
        kinds.setdefault((kind, sizes[kind] // MOST), []).append(i)
    return [mine for mine in kinds.values() if len(mine) > 1]


def _joins(codec: Codec, slots: Sequence[Slot], leaf: Leaf) -> bool:
    within = leaf.step is not None and traced(leaf.g) and not leaf.resting and leaf.stack is None
    if not within or not fits(codec, slots, leaf):
        return False
    small = leaf.p.ndim > 1 and leaf.p.size <= SMALL
    coded = all(isinstance(x, dict) for x in leaf.stored.values())
    return small and coded and not (by_types(leaf.p) or may_be_split(leaf.p))


def _as_one(
    apply: Apply, codec: Codec, slots: Sequence[Slot], arrays: Any, numbers: Any, step: Array
) -> list[Stepped]:
    """One step of leaves of which these are gradient, parameter and what is stored."""
    assert isinstance(codec, Int8), "see `fits`"
    block, like = codec.block, arrays[0][1]
    counts = [p.size // block for _, p, _ in arrays]
    starts = np.cumsum([0, *counts[:-1]]).astype(np.int32)
    # Multiplied here, row by row and column by column: modulo 2³² it is the same as in their sum.
    place = np.concatenate([np.arange(n, dtype=np.uint32) * block for n in counts])
    row, along = (x * np.uint32(GOLDEN) for x in (place, np.arange(block, dtype=np.uint32)))
    lead = (1,) * (like.ndim - 2)  # a rule may ask how many axes there are

    def joined(xs: Sequence[Array], width: int = block) -> Array:
        return jnp.concatenate([x.reshape(-1, width) for x in xs]).reshape(*lead, -1, width)

    def held(slot: Slot) -> tuple[Array, Array]:
        each = [stored[slot.name] for _, _, stored in arrays]
        return joined([x[codec.key(slot)] for x in each]), joined([x["scale"] for x in each], 1)

    @jax.jit  # is traced for its shapes, and not once more in the branch
    def stepped(g: Array, p: Array, old: Any) -> Any:
        signs = [(s.name, s.signed) for s in slots]
        seen = {k: of_blocks(old[k][0], old[k][1], sign) for k, sign in signs}
        u, new = apply(g, jax.lax.optimization_barrier(seen), p, numbers[0])
        after = {}
        for s in slots:
            x = new[s.name].astype(old[s.name][1].dtype)
            scale = scales(x, block, s.signed)
            seeded = along + np.uint32(seed_of(s) * GOLDEN % 2**32)
            start = jnp.asarray(row.reshape(*lead, -1, 1)) + seeded.reshape(*lead, 1, -1)
            codes = to_codes(x, scale, turned(start, step), s.signed)
            after[s.name] = {codec.key(s): codes, "scale": scale}
        return u, after, [jnp.asarray(i) for i in starts]

    g, p = (joined(xs) for xs in list(zip(*arrays, strict=True))[:2])
    given = g, p, {s.name: held(s) for s in slots}
    shapes = jax.eval_shape(stepped, *given)

    def never(*_: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    # XLA would make each leaf's part anew, with all that goes before it, in kernels of its own. It
    # does not look into a branch, and cannot know that a count is never negative. Where the parts
    # begin comes from there, too: parts of one shape are then one kernel, which is compiled once.
    *made, first = jax.lax.cond(step >= 0, stepped, never, *given)
    wanted = [(u, stored) for u, _, stored in arrays]
    return [
        jax.tree.map(lambda x, of, i=i: _part(x, i, tuple(of.shape)), tuple(made), of)
        for i, of in zip(first, wanted, strict=True)
    ]


@functools.partial(jax.jit, static_argnums=2)
def _part(x: Array, first: Array, shape: tuple[int, ...]) -> Array:
    """What stands from this row on in an array of rows."""
    rows = x.reshape(-1, x.shape[-1])
    count = int(np.prod(shape)) // rows.shape[-1]
    part: Array = jax.lax.dynamic_slice_in_dim(rows, first, count)
    return part.reshape(shape)
