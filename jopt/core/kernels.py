"""One kernel for a leaf whose slots are codes of eight bits: Pallas, for CUDA devices.

A block's scale takes all its entries before the first code of it can be written. XLA makes no
kernel of several outputs in which entries wait for a reduction over them: it reads all that a
rule reads twice. Here a program holds some whole blocks in registers from the first load to the
last store, so that everything is read once and written once, and the parameter moves with it.

The kernel knows no optimizer: it runs the rule on its tile. That takes rules that treat every
entry alone, see `Spec.elementwise`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jopt.base import ConfigError, is_one_of
from jopt.core.codecs import Codec, Int8, seed_of
from jopt.core.leaf import Leaf
from jopt.core.spec import Slot, Spec
from jopt.core.transform import Add
from jopt.numerics import compute_dtype, is_complex, widest
from jopt.numerics.blocks import folded, of_blocks, scales_of_rows, to_codes
from jopt.numerics.dither import turns_at
from jopt.numerics.explicit import sharded, stacked

Kernel = Literal["xla", "pallas"]
"""What runs a step of 8-bit slots, see `jopt.Common`."""
Stored = dict[str, Any]
Turn = Callable[..., tuple[Array, Stored]]
"""`turn(g, p, stored, numbers, step)`: the update, or the parameter moved by it; what to store."""

BLOCKS = 4
"""Blocks of a program, at most; each has a warp. The maximum of a block then never leaves its
warp, and a thread holds eight entries of each array: enough loads under way, few registers."""

ROW, STEP, GRADIENT, PARAMETER, HELD = range(5)
"""What the kernel reads, in this order; from `HELD` on the codes and the scale of each slot."""

MOVED, WRITTEN = range(2)
"""What it writes; from `WRITTEN` on the same of each slot."""

PAIR = 2
"""A slot's arrays: its codes and its scale."""


def pairs(arrays: Sequence[Any]) -> list[tuple[Any, Any]]:
    """The codes and the scale of each slot, from all of them in a row."""
    return list(zip(arrays[::PAIR], arrays[1::PAIR], strict=True))


def check_kernel(spec: Spec, codec: Codec, kernel: Any) -> bool:
    """Whether to fuse; raises `ConfigError` where that is asked for and cannot be."""
    if is_one_of(kernel, "xla"):
        return False
    if not is_one_of(kernel, "pallas"):
        raise ConfigError(
            spec.name,
            "there is no such kernel",
            expected="kernel='xla' or 'pallas'",
            found=repr(kernel),
        )
    if not isinstance(codec, Int8):
        raise ConfigError(
            spec.name,
            "kernel='pallas' is for slots in 8 bits",
            expected="state_dtype='int8'",
            found=f"state_dtype={codec.said}",
            fix="Drop kernel=: XLA makes one pass over slots of other dtypes.",
        )
    if not spec.elementwise:
        raise ConfigError(
            spec.name,
            "kernel='pallas' cannot run this rule, which sees other entries too",
            expected="kernel='xla'",
            found="'pallas'",
        )
    return True


def fits(codec: Codec, slots: Sequence[Slot], leaf: Leaf) -> bool:
    """Whether the kernel can take this leaf: real, of whole blocks, and all its slots codes.

    Slots that are one number of the leaf may stand beside them. What its type splits over a
    mesh is left to XLA, which knows how.
    """
    if not isinstance(codec, Int8) or leaf.p is None or sharded(leaf.p):
        return False
    g, p, stored = leaf.g, leaf.p, leaf.stored
    real = not is_complex(g.dtype) and not is_complex(p.dtype)
    if not real or compute_dtype(widest(g.dtype, p.dtype)) != jnp.float32:
        return False
    _, length = folded(tuple(p.shape), codec.block)
    known = all(isinstance(x, Array) and x.shape == () for x in leaf.numbers.rest.values())
    whole = length % codec.block == 0 and 0 < math.prod(p.shape) < 2**31
    coded = [stored[s.name][codec.key(s)] for s in slots if isinstance(stored.get(s.name), dict)]
    alone = [x for x in stored.values() if not isinstance(x, dict)]
    return (
        whole
        and known
        and bool(coded)
        and all(x.shape == p.shape for x in coded)
        and all(x.shape == () and x.dtype == jnp.float32 for x in alone)
    )


def on_cuda(kernel: Turn, elsewhere: Turn) -> Turn:
    """`kernel` on CUDA devices, `elsewhere` on others; its derivatives are those of `elsewhere`."""

    def run(*args: Any) -> Any:
        return jax.lax.platform_dependent(*args, cuda=kernel, default=elsewhere)

    turn = jax.custom_jvp(run)
    turn.defjvp(lambda primals, tangents: jax.jvp(elsewhere, primals, tangents))
    return turn


@functools.partial(jax.jit, static_argnames=("rule", "slots", "codec", "add", "interpret"))
def fused(
    g: Array,
    p: Array,
    stored: Stored,
    numbers: dict[str, Array],
    step: Array,
    *,
    rule: Callable[..., tuple[Array, dict[str, Array]]],
    slots: tuple[Slot, ...],
    codec: Codec,
    add: Add | None,
    interpret: bool = False,
) -> tuple[Array, Stored]:
    """One step of a leaf in one kernel; see `Turn`.

    **Arguments:**

    - `g`, `p`, `stored`: the gradient, the parameter and what the state holds of its slots.
    - `numbers`: scalars that go to the rule by name.
    - `step`: for dithered rounding.
    - `rule`: `rule(g, slots, p, numbers) -> (update, slots)`.
    - `slots`: those of the leaf.
    - `codec`: how they are stored.
    - `add`: gives p + u, entry by entry; with `None` the update itself is returned.
    - `interpret`: run it as plain jax, on any device.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    coded = tuple(s for s in slots if isinstance(stored[s.name], dict))
    alone = {s.name: stored[s.name] for s in slots if s not in coded}
    assert isinstance(codec, Int8), "see `fits`"
    codes, block = {s.name: codec.key(s) for s in coded}, codec.block
    count = p.size // block
    rows = math.gcd(count, BLOCKS)
    scalars = {**numbers, **alone}
    flags = {k for k, x in scalars.items() if x.dtype == bool}
    row = stacked([x.astype(jnp.float32) for x in scalars.values()])

    def body(*refs: Any) -> None:
        ins, outs = refs[: HELD + PAIR * len(coded)], refs[HELD + PAIR * len(coded) :]
        read = {k: ins[ROW][i] for i, k in enumerate(scalars)}
        seen = {k: x != 0 if k in flags else x for k, x in read.items()}
        values = {
            s.name: of_blocks(held_codes[...], held_scale[...][:, None], s.signed)
            for s, (held_codes, held_scale) in zip(coded, pairs(ins[HELD:]), strict=True)
        }
        own = {k: seen[k] for k in alone}
        g, p = ins[GRADIENT][...], ins[PARAMETER][...]
        u, new = keeping_nan(rule)(g, {**values, **own}, p, {k: seen[k] for k in numbers})
        u = u.astype(jnp.float32)
        outs[MOVED][...] = u if add is None else add("", p, u)
        first = (pl.program_id(0) * (rows * block)).astype(jnp.uint32)
        along = [jax.lax.broadcasted_iota(jnp.uint32, (rows, block), i) for i in (0, 1)]
        where = first + along[0] * jnp.uint32(block) + along[1]
        for s, (new_codes, new_scale) in zip(coded, pairs(outs[WRITTEN:]), strict=True):
            x = new[s.name].astype(jnp.float32)
            scale = scales_of_rows(x, s.signed)
            turn = turns_at(where, ins[STEP][0], seed_of(s))
            new_codes[...] = to_codes(x, scale[:, None], turn, s.signed)
            new_scale[...] = scale

    tile = pl.BlockSpec((rows, block), lambda i: (i, 0))
    scale = pl.BlockSpec((rows,), lambda i: (i,))
    one = [pl.BlockSpec(x.shape, lambda i: (0,)) for x in (row, step.reshape(1))]
    blocks = (count, block)
    held = [
        x
        for s in coded
        for x in (
            stored[s.name][codes[s.name]].reshape(blocks),
            stored[s.name]["scale"].reshape(count),
        )
    ]
    out = jax.ShapeDtypeStruct(blocks, jnp.float32 if add is None else p.dtype)
    # Codes and scales take the place of the old ones, and the parameter its own.
    places = {HELD + i: WRITTEN + i for i in range(len(held))}
    moved, *new = pl.pallas_call(
        body,
        out_shape=[out, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in held)],
        grid=(count // rows,),
        in_specs=[*one, tile, tile, *[tile, scale] * len(coded)],
        out_specs=[tile, *[tile, scale] * len(coded)],
        input_output_aliases=places | ({} if add is None else {PARAMETER: MOVED}),
        compiler_params=triton.CompilerParams(num_warps=rows, num_stages=1),
        interpret=interpret,
        name="jopt_int8_step",
    )(row, step.reshape(1), g.reshape(blocks), p.reshape(blocks), *held)
    after: Stored = {
        s.name: {
            codes[s.name]: new_codes.reshape(p.shape),
            "scale": new_scale.reshape(stored[s.name]["scale"].shape),
        }
        for s, (new_codes, new_scale) in zip(coded, pairs(new), strict=True)
    }
    if alone:
        # What is one number of the leaf depends on no entry: the rule on none of them gives it.
        none = {s.name: jnp.zeros(0, jnp.float32) for s in coded}
        _, given = rule(jnp.zeros(0, g.dtype), {**none, **alone}, jnp.zeros(0, p.dtype), numbers)
        after |= {k: given[k].astype(jnp.float32) for k in alone}
    return moved.reshape(p.shape), after


CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
"""Where primitives that only call something keep what they call."""


def keeping_nan(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, with maxima and minima of which NaN is a part NaN, as everywhere in jax.

    In Triton the other number wins, and what went wrong would be hidden.
    """

    def run(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
        out = _replayed(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), out)

    return run


def _replayed(jaxpr: Any, consts: list[Any], args: list[Any]) -> list[Any]:
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        values = [x.val if hasattr(x, "val") else env[x] for x in eqn.invars]
        inner = eqn.params.get(CALLS.get(eqn.primitive.name))
        if eqn.primitive in (jax.lax.max_p, jax.lax.min_p):
            a, b = values
            found = [jnp.where(a != a, a, jnp.where(b != b, b, eqn.primitive.bind(a, b)))]
        elif inner is not None:
            found = _replayed(inner.jaxpr, inner.consts, values)
        else:
            params = eqn.primitive.get_bind_params(eqn.params)
            given = eqn.primitive.bind(*values, **params)
            found = given if eqn.primitive.multiple_results else [given]
        env.update(zip(eqn.outvars, found, strict=True))
    return [x.val if hasattr(x, "val") else env[x] for x in jaxpr.outvars]
