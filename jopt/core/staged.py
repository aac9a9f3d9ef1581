"""`staged`: a stage added to the optimizers of a transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jopt.base import ConfigError
from jopt.core.axes import Known
from jopt.core.flow import Part
from jopt.core.groups import SHARED
from jopt.core.part import SpecPart
from jopt.core.route import RoutePart
from jopt.core.spec import NODE_KEYS, REGISTRY, Spec
from jopt.core.stage import Stage
from jopt.core.transform import Transform, check_transform

DECAY = "weight_decay"


def staged(
    tx: Transform, stage: Stage, *, fitted: Callable[[Spec], Stage] | None = None, **numbers: Any
) -> Transform:
    """The same transform, its optimizers with one more stage between direction and step.

    **Arguments:**

    - `tx`: an optimizer, or a chain or wrapper with one. Of a chain it is the last one, of a
      route that of each row.
    - `stage`: see `Stage`.
    - `fitted`: what the stage is for an optimizer of this spec, where that makes a difference.
    - `**numbers`: the numbers of the stage, of which `None` switches one off.

    **Raises:** `ConfigError` where there is no optimizer; for one whose step is its own, or that
    has a number or slot of the stage's already; for tables of which a rule sees only rows, and a
    stage that looks at more than one entry.
    """
    name = stage.name
    check_transform(name, tx)
    last = last_optimizers(tx.parts)
    if not last:
        raise ConfigError(name, "there is no optimizer here", found=repr(tx))
    if stage.reads_gradient:
        _check_gradient(name, tx.parts, last)

    def changed(part: Part) -> Part:
        if not (isinstance(part, SpecPart) and id(part) in last):
            return part
        own = fitted(part.spec) if fitted else stage
        _check(own, part, tx)
        return part.remade(
            _spec(own, part.spec),
            replace(
                part.ending,
                decay=None if own.ends_decay else part.ending.decay,
                stages=(*part.ending.stages, own),
            ),
            numbers,
        )

    return Transform({label: part.altered(changed) for label, part in tx.parts.items()})


def last_optimizers(parts: Mapping[str, Part]) -> set[int]:
    """The last optimizer of a row of parts; of routes side by side that of each."""
    for part in reversed([*parts.values()]):
        if isinstance(part, SpecPart):
            found = {id(part)} if part.spec.steps else set()
        elif isinstance(part, RoutePart):
            found = {i for row in part.labelled.values() for i in last_optimizers(row)}
        else:
            found = last_optimizers(part.wrapped)
        if found:
            return found
    return set()


def _check_gradient(name: str, parts: Mapping[str, Part], last: set[int]) -> None:
    """Raise `ConfigError` if what the last optimizer gets is a direction already."""
    before: str | None = None
    for part in parts.values():
        if isinstance(part, SpecPart):
            known = REGISTRY.get(part.name)
            if not part.spec.steps and known is not None and known.steps:
                before = part.name
            if id(part) in last and before:
                raise ConfigError(
                    name,
                    f"{part.name} gets the direction of {before}, not the gradient",
                    expected="an optimizer that gets the gradient",
                    fix=f"Put it around {before}: jopt.direction(jopt.{name}(jopt.{before}(...))).",
                )
        elif isinstance(part, RoutePart):
            for row in part.labelled.values():
                _check_gradient(name, row, last)
        else:
            _check_gradient(name, part.wrapped, last)


def _check(stage: Stage, part: SpecPart, tx: Transform) -> None:
    spec, name = part.spec, stage.name
    if any(other.name == name for other in part.ending.stages):
        raise ConfigError(name, f"{spec.name} has it already", found=repr(tx))
    fits = ("direction", "step") if stage.after_rule else ("direction",)
    if spec.gives not in fits:
        raise ConfigError(
            name,
            f"the step of {spec.name} is its own: no learning rate multiplies a direction",
            found=repr(tx),
        )
    if spec.sparse == "rows" and not stage.spec.elementwise:
        raise ConfigError(
            name,
            f"{spec.name} sees the rows that have a gradient, and this stage needs all entries",
            found=repr(tx),
        )
    if part.fuses and not stage.spec.elementwise:
        raise ConfigError(
            name,
            "kernel='pallas' cannot run this stage, which sees other entries too",
            expected="kernel='xla'",
            found=repr(tx),
        )
    if stage.decay and part.ending.decay in (None, "gradient", "rule"):
        where = "the gradient" if part.ending.decay == "gradient" else "its rule"
        raise ConfigError(
            name,
            f"the decay of {spec.name} is in {where}, before there is an update"
            if DECAY in spec.by_name
            else f"{spec.name} has no decay in the step",
            expected="decoupled weight decay",
            found=repr(tx),
            fix="Build it with decoupled=True." if part.ending.decay else None,
        )
    mine = (*stage.spec.by_name, *(s.name for s in stage.spec.slots))
    check_unused(name, spec, mine, tx)


def check_unused(who: str, spec: Spec, names: Sequence[str], tx: Transform) -> None:
    """Raise `ConfigError` if an optimizer has a number, slot or choice of such a name."""
    taken = {*spec.by_name, *spec.options, *(s.name for s in spec.slots), *SHARED, *NODE_KEYS}
    if clash := [n for n in names if n in taken]:
        raise ConfigError(
            who,
            f"{spec.name} has a {clash[0]!r} of its own",
            expected="numbers and slots that the optimizer and other stages do not have",
            found=repr(tx),
        )


def _spec(stage: Stage, spec: Spec) -> Spec:
    """The declaration of an optimizer with a stage; torch has none."""
    ended = {DECAY} if stage.ends_decay else set()
    return replace(
        spec,
        hypers=(*(h for h in spec.hypers if h.name not in ended), *stage.spec.hypers),
        slots=(*spec.slots, *stage.spec.slots),
        params_by=spec.params_by and tuple(n for n in spec.params_by if n not in ended),
        needs_params=spec.needs_params or stage.spec.needs_params,
        elementwise=spec.elementwise and stage.spec.elementwise,
        decay=None if stage.ends_decay else spec.decay,
        torch=None,
    )


def check_whole(who: str, part: Part, other: str, known: Known) -> None:
    """Raise `ConfigError` for an optimizer with stacks, which `other` does not have.

    **Arguments:** `known`: the shapes of its leaves by name, and of all others.
    """
    if isinstance(part, SpecPart) and part.stacked(known):
        raise ConfigError(
            who,
            f"{other} has no leaf of several tensors, and {part.name} has axes=",
            expected=f"jopt.{part.name}(...) without axes=",
            found=repr(part.axes)[:100],
            fix="Split the stacks into leaves of their own.",
        )


def check_bare(who: str, part: Part, other: str) -> None:
    """Raise `ConfigError` for an optimizer with stages, which `other` does not have."""
    if isinstance(part, SpecPart) and part.ending.stages:
        names = ", ".join(f"jopt.{stage.name}" for stage in part.ending.stages)
        raise ConfigError(
            who,
            f"{other} has no {part.name} with {names}: going over, its runs would take other steps",
            expected=f"jopt.{part.name}(...) alone",
            found=names,
            fix=f"Carry {part.name}'s state over without, then take what fits: "
            "jopt.load_state_dict(tx.init(params), state, strict=False).",
        )
