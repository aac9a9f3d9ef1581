"""Which numbers the linear algebra of an optimizer of matrices reads, found out by running it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from jopt.core.declared import Options, Slot
from jopt.numerics import all_of, number_dtype

SAMPLE = (2, 3)
"""The matrix that it is shown, without an entry."""


class Watched:
    """What a function reads by attribute, with the names that it asks for put down in `asked`."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known
        self.asked: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in ("asked", "_known"):
            return object.__getattribute__(self, name)
        if name == "__dict__" or name not in self._known:
            raise LookupError(name)  # whoever looks at all of it, or at something else
        self.asked.add(name)
        return self._known[name]


def numbers_read(
    batch: Callable[..., Any],
    spread: Callable[..., Any] | None,
    prepare: Callable[[Any], dict[str, Any]] | None,
    slots: Sequence[Slot],
    names: Collection[str],
    options: Options,
    static: Mapping[str, Any],
) -> frozenset[str]:
    """Of these numbers those that the linear algebra reads, or what is prepared for it.

    All of them, if in doubt.

    **Arguments:** `slots`: those that it sees; `options`: what their shapes go by; `static`: the
    choices that it reads.
    """
    found: set[str] = set()

    def run() -> None:
        numbers = {name: jnp.ones((), number_dtype()) for name in (*names, "t")}
        first = Watched({**numbers, **static})
        made = {} if prepare is None else prepare(first)
        h = Watched({**numbers, **static, **made})
        x = jnp.ones((1, *SAMPLE))
        held = [s for s in slots if s.held_by(SAMPLE, options)]
        s = {s.name: jnp.ones((1, *s.shape_for(SAMPLE, options)), s.dtype) for s in held}
        made_of = batch(x, *([SimpleNamespace(**s)] if slots else []), h)
        if isinstance(made_of, Generator):
            all_of([made_of])
        if spread is not None:
            spread(x, h, ())
        found.update(h.asked & {*names})
        if h.asked & {*made}:
            found.update(first.asked & {*names})

    try:
        jax.eval_shape(run)
    except Exception:  # of the user's function, which is not made for this
        return frozenset(names)
    return frozenset(found)
