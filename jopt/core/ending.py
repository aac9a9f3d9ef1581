"""From direction to step: what every optimizer that has a direction does after its rule.

A rule gives a direction d. The door turns it into the update, in the rule's own dtype and in the
leaf's own kernel, the same way for all of them:

    g ← −g                     maximize
    g ← g + λ·p                decay in the gradient
    d ← rule(g)
    d ← d + λ·p                decay in the direction
    p ← p − η·d
    p ← p·(1 − η·λ) − η·d      decay in the step; p·(1 − λ) − η·d if independent of η

A rule may have a place of its own for decay; where the user chose another, it sees λ as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jopt.base import ConfigError, is_one_of
from jopt.core.spec import Spec
from jopt.numerics import Ratio

Gives = Literal["direction", "step", "update"]
Decay = bool | Literal["independent"]
Place = Literal["gradient", "direction", "rule", "step", "independent"]


@dataclass(frozen=True)
class Ending:
    """What surrounds the rule of one optimizer; a static argument of its program.

    - `gives`: what the rule returns: a direction, which η multiplies; a step, with η in it, that
      is taken off the parameter; or the update itself, which is added to it.
    - `decay`: where weight decay enters.
    - `maximize`: whether the gradient changes sign before all else.
    """

    gives: Gives = "update"
    decay: Place | None = None
    maximize: bool = False

    def start(self, g: Any, p: Any, h: Any) -> Any:
        """The gradient that the rule sees."""
        if self.maximize:
            g = -g
        if self.decay == "gradient":
            g = g + h.weight_decay * p
        return g

    def numbers(self, h: Mapping[str, Any]) -> dict[str, Any]:
        """The numbers that the rule sees: no weight decay where the door does it, or nobody."""
        done = self.decay not in (None, "rule")
        return {"weight_decay": 0.0, **h} | ({"weight_decay": 0.0} if done else {})

    def finish(self, d: Any, p: Any, h: Any) -> Any:
        """The update, from what the rule gave."""
        multiplied = self.gives == "direction"
        if isinstance(d, Ratio) and not (multiplied and self.decay != "direction"):
            d = d.value
        if self.gives == "update":
            return d
        if self.decay == "direction":
            d = d + h.weight_decay * p
        if isinstance(d, Ratio):
            step = d.times(h.learning_rate)
        else:
            step = h.learning_rate * d if multiplied else d
        if self.decay not in ("step", "independent"):
            return -step
        share = h.weight_decay if self.decay == "independent" else h.learning_rate * h.weight_decay
        # The new parameter first: p + update is then exactly what the formula says.
        p_new = p * (1 - share) - step
        return p_new - p


def choices_of(spec: Spec, ending: Ending, options: Mapping[str, Any]) -> dict[str, Any]:
    """The static choices, those of the ending among them where torch or the user makes them."""
    shown: dict[str, Any] = {}
    if "maximize" in spec.options or ending.maximize:
        shown["maximize"] = ending.maximize
    if "decoupled" in spec.options or ending.decay != spec.decay:
        independent = ending.decay == "independent"
        shown["decoupled"] = "independent" if independent else ending.decay == "step"
    return {**shown, **options}


def ending_of(spec: Spec, common: Mapping[str, Any]) -> Ending:
    """What the spec declares and the user chose; raises `ConfigError` for what does not fit."""
    maximize = common.get("maximize", False)
    if maximize and not spec.steps:
        raise ConfigError(spec.name, "only what makes steps can ascend", found="maximize=True")
    return Ending(spec.gives, _place(spec, common.get("decoupled")), maximize)


def _place(spec: Spec, decoupled: Decay | None) -> Place | None:
    if decoupled is None:
        return spec.decay
    if not (isinstance(decoupled, bool) or is_one_of(decoupled, "independent")):
        raise ConfigError(
            spec.name,
            "there is no such decay",
            expected="decoupled=True, False or 'independent'",
            found=repr(decoupled),
        )
    if decoupled == (spec.decay == "step") and spec.decay not in ("direction", "rule"):
        return spec.decay
    if spec.decay is None or spec.gives == "update":
        raise ConfigError(
            spec.name,
            "its weight decay has one place" if spec.decay else "it has no weight decay",
            found=f"decoupled={decoupled!r}",
            fix="Drop decoupled=.",
        )
    if decoupled == "independent":
        return "independent"
    return "step" if decoupled else "gradient"
