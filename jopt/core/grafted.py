"""Another optimizer's direction within a rule: its lines, under names of their own.

A rule may be one of two for the same leaf, and take the length of its step from the other. The
other's numbers and slots then stand in the node beside its own, as `graft_b2` and `graft_nu`: they
are scheduled, grouped, stored, sharded and saved as all others are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from jopt.base import ConfigError
from jopt.core.asked import Asked
from jopt.core.declared import Options, Shape, Slot
from jopt.core.direction import direction
from jopt.core.doors import LeafPart
from jopt.core.ending import value_of
from jopt.core.groups import SHARED
from jopt.core.one_leaf import Rule
from jopt.core.spec import Spec
from jopt.core.transform import Transform

PREFIX = "graft_"
"""What stands before its names."""


@dataclass(frozen=True)
class Graft:
    """The other rule; a static choice of the one that it is grafted on.

    **Attributes:** `name`, `rule`, `prepare`: see `jopt.leafwise`; `slots`: the names of those that
    it keeps; `options`: its static choices, and which of its numbers are off.
    """

    name: str
    rule: Rule
    prepare: Any
    slots: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]

    def __repr__(self) -> str:
        chosen = "".join(f", {k}={v!r}" for k, v in self.options)
        return f"<{self.name}{chosen}>"

    def prepared(self, h: Any) -> dict[str, Any]:
        """What it makes of numbers and step alone."""
        made = {} if self.prepare is None else self.prepare(self._own(h))
        return {PREFIX + k: x for k, x in made.items()}

    def direction(self, g: Any, s: Any, p: Any, h: Any) -> tuple[Any, dict[str, Any]]:
        """Where it points, and its new slots."""
        held = {k: x for k in self.slots if (x := getattr(s, PREFIX + k, None)) is not None}
        d, new = self.rule(g, SimpleNamespace(**held), p, self._own(h))
        return value_of(d), {PREFIX + k: new[k] for k in held}

    def _own(self, h: Any) -> Any:
        known = vars(h)
        shared = {k: known[k] for k in ("t", "dtype", "ndim") if k in known}
        mine = {k.removeprefix(PREFIX): x for k, x in known.items() if k.startswith(PREFIX)}
        return SimpleNamespace(**({"weight_decay": 0.0} | dict(self.options) | shared | mine))


@dataclass(frozen=True)
class _Declared:
    """What a slot says by its own optimizer's choices."""

    slot: Slot
    options: tuple[tuple[str, Any], ...]

    def shape(self, shape: Shape, _: Options) -> Shape:
        return self.slot.shape_for(shape, dict(self.options))

    def fits(self, shape: Shape, _: Options) -> bool:
        return self.slot.held_by(shape, dict(self.options))


def grafting(door: Callable[..., Transform]) -> Callable[..., Transform]:
    """The door of rules that read `h.graft`: a word or `None`, or a `Graft` for a transform."""

    def lifted(spec: Spec, rule: Rule, *, options: Mapping[str, Any], **given: Any) -> Transform:
        tx = options["graft"]
        if isinstance(tx, Transform):
            part = _alone(spec.name, tx)
            spec = _declared(spec, part)
            graft = Graft(
                part.name,
                part.rule,
                part.prepare,
                tuple(slot.name for slot in part.slots),
                part.frozen_options,
            )
            options = {**options, "graft": graft}
            given = {k: x for k, x in given.items() if not k.startswith(PREFIX)}
            given |= {PREFIX + k: x for k, x in part.numbers.items()}
        return door(spec, rule, options=options, **given)

    return lifted


def _declared(spec: Spec, part: Asked) -> Spec:
    """A declaration with what another optimizer has beside, under its prefix."""
    by = None if part.spec.needs_params else spec.params_by
    if by is not None:
        by = (*by, *(PREFIX + name for name in part.spec.params_by or ()))
    numbers = [
        replace(x, name=PREFIX + x.name, beside=x.beside and PREFIX + x.beside)
        for x in part.spec.hypers
        if x.name in part.numbers
    ]
    options = tuple(sorted(part.options.items()))
    return replace(
        spec,
        hypers=(*(x for x in spec.hypers if not x.name.startswith(PREFIX)), *numbers),
        slots=(*spec.slots, *(_renamed(slot, options) for slot in part.slots)),
        params_by=by,
    )


def _renamed(slot: Slot, options: tuple[tuple[str, Any], ...]) -> Slot:
    as_said = _Declared(slot, options)
    shape: Any = as_said.shape if callable(slot.shape) else slot.shape
    init: Any = PREFIX + slot.init if isinstance(slot.init, str) else slot.init
    fits = None if slot.fits is None else as_said.fits
    return replace(
        slot, name=PREFIX + slot.name, shape=shape, init=init, when=None, fits=fits, torch=None
    )


def _alone(who: str, tx: Transform) -> LeafPart:
    """The part that `tx` is."""
    parts = [*direction(tx).parts.values()]
    part = parts[0]
    if len(parts) > 1 or type(part) is not LeafPart:
        problem: str | None = "it is not one rule that sees a leaf by itself"
    elif part.ending.stages:
        problem = f"jopt.{part.ending.stages[0].name} acts on its direction"
    elif part.extra or part.spec.optional:
        problem = f"its rule wants {', '.join((*part.extra, *part.spec.optional))} of update"
    elif own := _of_its_own(part):
        problem = f"it has {own} of its own"
    else:
        return part
    raise ConfigError(
        who,
        f"there is no grafting to this: {problem}",
        expected="an optimizer such as jopt.rmsprop(), with numbers alone",
        found=repr(tx)[:100],
        fix=f"What concerns leaves, groups= or state_dtype=, give to jopt.{who}.",
    )


def _of_its_own(part: Asked) -> str | None:
    """What it has been told of leaves, by the name of the argument."""
    given: Mapping[str, Any] = part.made_of[2]
    said = (k for k in sorted(SHARED) if k != "decoupled" and k in given)
    return next((k for k in said if given[k] not in (None, False, "xla")), None)
