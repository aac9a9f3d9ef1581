"""Which codec stores which slot: what `state_dtype=` says, for all slots or for single ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from jax import Array

from jopt.base import ConfigError, is_one_of
from jopt.core.codecs import PLAIN, Bfloat16, Codec, Int8
from jopt.core.spec import Slot, Spec

Stored = Literal["int8", "bfloat16"] | None
"""How a slot is stored: `None` as it is computed."""

StateDtype = Stored | Mapping[str, Stored]
"""How slots are stored: all in one way, or each by its name; see `jopt.Common`."""

CODECS: dict[str, Callable[[], Codec]] = {"int8": Int8, "bfloat16": Bfloat16}


class BySlot(Codec):
    """Some slots by one codec, some by another; those that are not named as computed."""

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        self.codecs: dict[str, Codec] = dict(codecs)

    name = "by slot"

    @property
    def said(self) -> str:
        """See `Codec.said`."""
        return "{" + ", ".join(f"{k!r}: {codec.said}" for k, codec in self.codecs.items()) + "}"

    @property
    def config(self) -> Any:
        """What a checkpoint says: each slot's."""
        return {"by_slot": {slot: codec.config for slot, codec in sorted(self.codecs.items())}}

    def of(self, slot: Slot) -> Codec:
        """The codec of this slot."""
        return self.codecs.get(slot.name, PLAIN)

    def measure(self, slot: Slot, value: Array) -> Any:
        """See `Codec.measure`."""
        return self.of(slot).measure(slot, value)

    def encode(
        self, slot: Slot, value: Array, step: Array | None = None, measured: Any = None
    ) -> Any:
        """See `Codec.encode`."""
        return self.of(slot).encode(slot, value, step, measured)

    def decode(self, slot: Slot, stored: Any, dtype: Any) -> Array:
        """See `Codec.decode`."""
        return self.of(slot).decode(slot, stored, dtype)


def codec_for(spec: Spec, active: Sequence[Slot], state_dtype: Any) -> Codec:
    """The codec for what `state_dtype=` says; `active` are the slots in use.

    **Raises:** `ConfigError` for a dtype that nothing is stored in, a slot that there is not, or
    one that cannot be rounded.
    """
    if not isinstance(state_dtype, Mapping):
        return _named(spec.name, state_dtype)
    slots = {s.name: s for s in spec.slots if s.scope == "leaf"}
    for name in state_dtype:
        if name not in slots:
            raise ConfigError(
                spec.name,
                f"state_dtype= names a slot that there is not: {name!r}",
                expected=", ".join(slots) or "no slots",
                found=repr(name),
            )
        if state_dtype[name] is not None and (not slots[name].compress or slots[name].dtype):
            raise ConfigError(
                spec.name,
                f"the slot {name!r} cannot be rounded, and is stored as computed",
                expected="None",
                found=repr(state_dtype[name]),
            )
    codecs = {name: _named(spec.name, dtype) for name, dtype in state_dtype.items()}
    rounded = {name: codec for name, codec in codecs.items() if codec.rounds}
    bare = {s.name for s in active if s.compress and not s.dtype} - rounded.keys()
    if not bare and len({codec.name for codec in rounded.values()}) == 1:
        return next(iter(rounded.values()))
    return BySlot(rounded) if rounded else PLAIN


def each_of(state_dtype: StateDtype, *specs: Spec) -> list[StateDtype]:
    """`state_dtype=` for each of several optimizers: of single slots, those that it has.

    The last one gets what none has, and refuses it.
    """
    if not isinstance(state_dtype, Mapping):
        return [state_dtype] * len(specs)
    names = [{slot.name for slot in spec.slots} for spec in specs]
    known = set().union(*names)
    shares = [{k: v for k, v in state_dtype.items() if k in mine} for mine in names]
    shares[-1] |= {k: v for k, v in state_dtype.items() if k not in known}
    return [*shares]


def _named(who: str, dtype: Any) -> Codec:
    if dtype is None:
        return PLAIN
    if is_one_of(dtype, *CODECS):
        return CODECS[dtype]()
    raise ConfigError(
        who,
        "no state is stored in this dtype",
        expected="state_dtype='int8', 'bfloat16', {slot: one of these}, or None for as computed",
        found=repr(dtype),
    )
