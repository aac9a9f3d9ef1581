"""How a slot is stored between steps.

A rule always sees slots in the dtype it computes in. A codec turns that into what the state
holds, and back. Doors call codecs; rules never do.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jopt.core.spec import Options, Slot
from jopt.numerics import compute_dtype, is_complex, real_dtype


class Codec(abc.ABC):
    """Encodes a slot for storage and decodes it for the rule."""

    @abc.abstractmethod
    def encode(self, slot: Slot, value: Array) -> Any:
        """What the state holds for `value`: an array, or a dict of arrays."""

    @abc.abstractmethod
    def decode(self, slot: Slot, stored: Any) -> Array:
        """The value that the rule sees."""


class Plain(Codec):
    """Stored as computed: float32 for parameters up to float32, else the parameter's dtype."""

    def encode(self, slot: Slot, value: Array) -> Array:
        """`value` itself."""
        return value

    def decode(self, slot: Slot, stored: Array) -> Array:
        """`stored` itself."""
        return stored


PLAIN = Plain()


def fresh(slot: Slot, p: Any, numbers: Mapping[str, Any], options: Options) -> Array:
    """The slot's first value for the parameter `p`, with its sharding where the shapes agree.

    `numbers` gives the hyperparameter that `slot.init` may name.
    """
    shape = slot.shape_for(tuple(p.shape), options)
    dtype = jnp.dtype(slot.dtype) if slot.dtype else compute_dtype(p.dtype)
    statistic = slot.shape == "scalar" or shape != tuple(p.shape)
    if is_complex(dtype) and statistic and not slot.entries:
        dtype = real_dtype(dtype)
    if callable(slot.init):
        known = p if isinstance(p, Array) else jnp.zeros(p.shape, p.dtype)
        # A copy: a slot that shared the parameter's buffer could not be donated beside it.
        return jnp.array(slot.init(known), dtype, copy=True)
    fill: Any = slot.init
    if isinstance(fill, str):
        # A copy: jax fills a scalar with an array by giving that very array, and a buffer that
        # two leaves of a state share cannot be donated.
        fill = jnp.array(numbers[fill], copy=True)
    if is_complex(dtype):  # a pair of reals to the rule: both components start at `fill`
        fill = jax.lax.complex(*(jnp.asarray(fill, real_dtype(dtype)),) * 2)
    if shape == tuple(p.shape) and isinstance(p, Array):
        return jax.lax.full_like(p, fill, dtype)
    return jnp.full(shape, fill, dtype)
