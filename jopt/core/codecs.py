"""How a slot is stored between steps.

A rule always sees slots in the dtype it computes in. A codec turns that into what the state
holds, and back. Parts call codecs; rules never do.
"""

from __future__ import annotations

import abc
import functools
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.spec import Options, Shape, Slot
from jopt.numerics import as_complex, as_pairs, compute_dtype, is_complex, real_dtype
from jopt.numerics.blocks import folded, grain, of_blocks, scales, spread, to_codes
from jopt.numerics.dither import to_bfloat16, turns
from jopt.numerics.explicit import placed

WHOLE_UNDER = 4096
"""Slots of fewer entries are stored as computed: they take little, and biases want precision."""

BLOCK = 256


class Codec(abc.ABC):
    """Encodes a slot for storage and decodes it for the rule."""

    name: str
    rounds: bool = True
    """Whether what it stores depends on the step, which the state then counts."""
    measures: bool = False
    """Whether it asks what `measure` tells."""

    @property
    def config(self) -> Any:
        """What a checkpoint says about it."""
        return self.name

    @property
    def said(self) -> str:
        """What `state_dtype=` says."""
        return repr(self.name) if self.rounds else "None"

    def of(self, slot: Slot) -> Codec:
        """The codec that stores this slot: itself, unless slots have several."""
        return self

    def measure(self, slot: Slot, value: Array) -> Any:
        """What must be known of all of `value` before any entry is stored; `None` if nothing."""
        return None

    @abc.abstractmethod
    def encode(
        self, slot: Slot, value: Array, step: Array | None = None, measured: Any = None
    ) -> Any:
        """What the state holds for `value`: an array, or a dict of arrays.

        `measured` is what `measure` gave, if that was asked before.
        """

    @abc.abstractmethod
    def decode(self, slot: Slot, stored: Any, dtype: Any) -> Array:
        """The value that the rule sees, of this dtype; raises `ValueError` for another's store."""

    def grain(self, stored: Any) -> Any:
        """For each axis of what is stored, how many entries must stay on one device."""
        return jax.tree.map(lambda x: (1,) * len(x.shape), stored)


class Plain(Codec):
    """Stored as computed: float32 for parameters up to float32, else the parameter's dtype."""

    name = "plain"
    rounds = False

    def encode(
        self, slot: Slot, value: Array, step: Array | None = None, measured: Any = None
    ) -> Array:
        """`value` itself."""
        return value

    def decode(self, slot: Slot, stored: Any, dtype: Any) -> Array:
        """`stored` itself."""
        if isinstance(stored, dict) or (slot.compress and _dtype(stored) == jnp.bfloat16):
            raise ValueError(_told(stored))
        return stored  # type: ignore[no-any-return]


class Compressed(Codec):
    """What `state_dtype=` asks for; small slots, and those not to be compressed, stay whole."""

    @property
    def config(self) -> Any:
        """Its name, and which slots are whole because they are small."""
        return {"dtype": self.name, "whole_under": WHOLE_UNDER}

    def holds(self, slot: Slot, shape: Shape) -> bool:
        """Whether a slot of this shape is compressed."""
        size = math.prod(shape)
        return slot.compress and slot.scope == "leaf" and not slot.dtype and size >= WHOLE_UNDER

    def encode(
        self, slot: Slot, value: Array, step: Array | None = None, measured: Any = None
    ) -> Any:
        """`value`, compressed if it is large enough."""
        if not self.holds(slot, value.shape):
            return value
        return self.pack(slot, value, jnp.uint32(0) if step is None else step, measured)

    @abc.abstractmethod
    def pack(self, slot: Slot, value: Array, step: Array, measured: Any) -> Any:
        """What the state holds for a large value."""


class Bfloat16(Compressed):
    """Half of float32's bits: its exponent and seven digits, rounded up or down in turn."""

    name = "bfloat16"

    def pack(self, slot: Slot, value: Array, step: Array, measured: Any) -> Array:
        """The array in bfloat16; of complex numbers the pairs."""
        rounded: Array = _to_bfloat16(as_pairs(value), step, seed_of(slot))
        return rounded

    def decode(self, slot: Slot, stored: Any, dtype: Any) -> Array:
        """The same numbers in the wider dtype."""
        packed = _dtype(stored) == jnp.bfloat16
        if isinstance(stored, dict) or packed != self.holds(slot, _shape(stored, packed and dtype)):
            raise ValueError(_told(stored))
        if not packed:
            return stored  # type: ignore[no-any-return]
        wide: Array = stored.astype(real_dtype(dtype))
        return as_complex(wide) if is_complex(dtype) else wide


class Int8(Compressed):
    """Blocks of codes of eight bits and a scale each; see `numerics.blocks`."""

    name = "int8"
    measures = True

    def __init__(self, block: int = BLOCK) -> None:
        self.block = block

    @property
    def config(self) -> Any:
        """Also the size of a block, and the map."""
        return {**super().config, "block": self.block, "map": "dynamic"}

    def key(self, slot: Slot) -> str:
        """What the codes are called in the state: it tells their map and the size of a block."""
        return f"{'signed' if slot.signed else 'unsigned'}_dynamic_{self.block}"

    def pack(self, slot: Slot, value: Array, step: Array, measured: Any) -> dict[str, Array]:
        """Codes like the slot (a complex one's pairs), and the scales of their blocks."""
        scale = self.measure(slot, value) if measured is None else measured
        codes = _to_int8(as_pairs(value), scale, step, self.block, slot.signed, seed_of(slot))
        return {self.key(slot): codes, "scale": scale}

    def measure(self, slot: Slot, value: Array) -> Any:
        """The scales of the blocks."""
        if not self.holds(slot, value.shape):
            return None
        return _scales(as_pairs(value), self.block, slot.signed)

    def decode(self, slot: Slot, stored: Any, dtype: Any) -> Array:
        """The values of the codes, times their scales."""
        if not isinstance(stored, dict):
            if _dtype(stored) == jnp.bfloat16 or self.holds(slot, _shape(stored)):
                raise ValueError(_told(stored))
            return stored  # type: ignore[no-any-return]
        key = self.key(slot)
        if set(stored) != {key, "scale"}:
            raise ValueError(_told(stored))
        lead, length = folded(stored[key].shape, self.block)
        blocks = (*stored[key].shape[:lead], -(-length // self.block))
        if tuple(stored["scale"].shape) != blocks:
            raise ValueError(f"{_told(stored)}, of shape {stored['scale'].shape} for {blocks}")
        value = _of_int8(stored[key], stored["scale"], self.block, slot.signed)
        return as_complex(value) if is_complex(dtype) else value

    def grain(self, stored: Any) -> Any:
        """Whole blocks of codes: see `numerics.blocks.grain`."""
        grains = super().grain(stored)
        if not isinstance(stored, dict):
            return grains
        ((key, codes),) = ((k, x) for k, x in stored.items() if k != "scale")
        grains[key] = grain(codes.shape, self.block)
        return grains


PLAIN = Plain()


def _dtype(stored: Any) -> Any:
    return getattr(stored, "dtype", None)


def _shape(stored: Any, pairs_of: Any = None) -> Shape:
    shape = tuple(getattr(stored, "shape", ()))
    return shape[:-1] if pairs_of and is_complex(pairs_of) else shape


def _told(stored: Any) -> str:
    if isinstance(stored, dict):
        return " and ".join(sorted(map(repr, stored))) or "nothing"
    return str(_dtype(stored))


@functools.partial(jax.jit, static_argnums=2)
def _to_bfloat16(x: Array, step: Array, seed: int) -> Array:
    return to_bfloat16(_within_float32(x), turns(x.shape, step, seed))


def _within_float32(x: Array) -> Array:
    """x in float32, and at its ends what is finite in a wider dtype only."""
    if x.dtype == jnp.float32:
        return x
    most = float(jnp.finfo(jnp.float32).max)
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -most, most), x).astype(jnp.float32)


_scales = functools.partial(jax.jit, static_argnums=(1, 2))(scales)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _to_int8(x: Array, scale: Array, step: Array, block: int, signed: bool, seed: int) -> Array:
    each = spread(scale, x.shape, block)
    return to_codes(x, each, turns(x.shape, step, seed), signed)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _of_int8(codes: Array, scale: Array, block: int, signed: bool) -> Array:
    value = of_blocks(codes, spread(scale, codes.shape, block), signed)
    # A CPU makes each result of a rule in a loop of its own, and would decode in each of them.
    held: Array = jax.lax.platform_dependent(
        value, cpu=jax.lax.optimization_barrier, default=lambda x: x
    )
    return held


def seed_of(slot: Slot) -> int:
    """What sets its dither apart: two slots of a leaf are not rounded alike."""
    return zlib.crc32(slot.name.encode())


def dtype_of(slot: Slot, p: Any, options: Options) -> jnp.dtype:
    """The dtype that the rule sees the slot of the parameter `p` in."""
    dtype = jnp.dtype(slot.dtype) if slot.dtype else compute_dtype(p.dtype)
    # Also where a row is as long as its leaf: what a number is does not depend on sizes.
    statistic = slot.shape in ("scalar", "row", "column")
    statistic |= slot.shape_for(tuple(p.shape), options) != tuple(p.shape)
    if is_complex(dtype) and statistic and not slot.entries:
        return real_dtype(dtype)
    return dtype


def fresh(slot: Slot, p: Any, numbers: Mapping[str, Any], options: Options) -> Array:
    """The slot's first value for the parameter `p`, split along the axes that it shares with it.

    `numbers` gives the hyperparameter that `slot.init` may name.
    """
    shape = slot.shape_for(tuple(p.shape), options)
    dtype = dtype_of(slot, p, options)
    if callable(slot.init):
        known = p if isinstance(p, Array) else jnp.zeros(p.shape, p.dtype)
        return slot.first(known, options, dtype)
    fill: Any = slot.init
    if isinstance(fill, str):
        # A copy: jax fills a scalar with an array by giving that very array, and a buffer that
        # two leaves of a state share cannot be donated.
        fill = jnp.array(numbers[fill], copy=True)
    if is_complex(dtype):  # a pair of reals to the rule: both components start at `fill`
        fill = jax.lax.complex(*(jnp.asarray(fill, real_dtype(dtype)),) * 2)
    if not isinstance(p, Array):
        return jnp.full(shape, fill, dtype)
    if shape == tuple(p.shape):
        return jax.lax.full_like(p, fill, dtype)
    where = placed(p, slot.axes_for(tuple(p.shape), options))
    return (
        jnp.full(shape, fill, dtype)
        if where is None
        else jax.lax.full(shape, fill, dtype, sharding=where)
    )
