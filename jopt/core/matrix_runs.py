"""A matrixwise rule on one leaf, as it goes from one `yield` to the next.

Of a leaf that holds many matrices the rule runs on all of them at once. A generator cannot be
mapped from `yield` to `yield`, so it is run anew from its start each time, with all that it has
been sent; what is computed twice is one operation to the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from jopt.core.leaf import Leaf, Outcome
from jopt.core.stack import Held, Stack

Run = Generator[Any, Any, tuple[Array, dict[str, Array]]]
"""A rule under way: it yields matrices, and gets back what `batch` makes of them.

Or other tensors, each with what is kept beside it.
"""
Start = Callable[[Leaf, Any, Mapping[str, Any], Any], Run]


class Waiting:
    """A rule on one leaf that waits for what becomes of `x`.

    **Attributes:** `x`, whose leading axes number the leaf's matrices; `kept`, numbered alike: the
    slots that whoever has the whole matrix sees and changes; `outcome`, in the end; `done`: it
    waits for nothing, as where the rule of a leaf that is no matrix never yields.
    """

    x: Any
    kept: dict[str, Array]
    outcome: Outcome
    done: bool = False

    def __init__(self, start: Start, leaf: Leaf, owned: Collection[str]) -> None:
        self.leaf = leaf
        self.kept = {k: x for k, x in leaf.slots.items() if k in owned}
        self.run: Run = start(leaf, leaf.g, without(leaf.slots, owned), leaf.p)
        self.done = not self._sent(None)

    @property
    def other(self) -> bool:
        """Whether `x` is no matrix, but a tensor and what is kept beside it."""
        return isinstance(self.x, tuple)

    def goes_on(self, x: Any, kept: dict[str, Array]) -> bool:
        """Whether the rule waits again, now that it knows what became of `x`."""
        self.kept = kept
        return self._sent(x)

    def _sent(self, x: Any) -> bool:
        try:
            self.x = self.run.send(x)
            return True
        except StopIteration as done:
            update, slots = done.value
            self.outcome = Outcome(update, slots={**slots, **self.kept})
            return False


class WaitingStack(Waiting):
    """The same for all matrices of a leaf."""

    def __init__(
        self, start: Start, leaf: Leaf, owned: Collection[str], stack: Stack, held: Held
    ) -> None:
        self.start: Start = start
        self.leaf: Leaf = leaf
        self.stack: Stack = stack
        self.held: Held = held
        slots = held.parted(stack, leaf.slots)
        self.kept = {k: x for k, x in slots.items() if k in owned}
        p = None if leaf.p is None else stack.apart(leaf.p)
        self.seen: tuple[Any, ...] = stack.apart(leaf.g), without(slots, owned), p
        self.sent: list[Any] = []
        self.done: bool = not self._replay()

    def goes_on(self, x: Any, kept: dict[str, Array]) -> bool:
        """See `Waiting.goes_on`."""
        self.kept: dict[str, Array] = kept
        self.sent.append(x)
        return self._replay()

    def _replay(self) -> bool:
        waits: list[bool] = []

        def one(seen: tuple[Any, ...], sent: list[Any]) -> Any:
            run = self.start(self.leaf, *seen)
            try:
                x = next(run)
                for y in sent:
                    x = run.send(y)
            except StopIteration as done:
                waits.append(False)
                return done.value
            waits.append(True)
            return x

        found = self.stack.mapped(one)(self.seen, self.sent)
        if waits[-1]:
            self.x = found
            return True
        update, slots = found
        leaf = self.leaf
        joined = self.held.joined(self.stack, {**slots, **self.kept}, leaf.slots)
        self.outcome: Outcome = Outcome(self.stack.together(update, like=leaf.g), slots=joined)
        return False


class Idle(Waiting):
    """A leaf without a matrix: there is nothing to wait for."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self.outcome, self.done = Outcome(jnp.zeros_like(leaf.g), slots=leaf.slots), True


def begun(start: Start, leaf: Leaf, owned: Collection[str], held: Held) -> Waiting:
    """The rule on a leaf, at its first `yield`."""
    stack = leaf.stack
    if stack is None:
        return Waiting(start, leaf, owned)
    if not math.prod(stack.lead):
        return Idle(leaf)
    return WaitingStack(start, leaf, owned, stack, held)


def without(slots: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The slots but these."""
    return {k: x for k, x in slots.items() if k not in names}
