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
Between these lines act the stages that wrappers have added, see `stage.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from jopt.base import ConfigError, is_one_of
from jopt.core.spec import Spec
from jopt.core.stage import Stage
from jopt.numerics import Ratio

Gives = Literal["direction", "step", "update"]
Decay = bool | Literal["independent"]
"""Where weight decay enters, see `jopt.Coupled`."""
Place = Literal["gradient", "direction", "rule", "step", "independent"]

LEFT = "left_by_decay"
"""The number that says how much of the parameter decay in the step leaves."""


@dataclass(frozen=True)
class Ending:
    """What surrounds the rule of one optimizer; a static argument of its program.

    - `gives`: what the rule returns: a direction, which η multiplies; a step, with η in it, that
      is taken off the parameter; or the update itself, which is added to it.
    - `decay`: where weight decay enters.
    - `maximize`: whether the gradient changes sign before all else.
    - `stages`: what acts between direction and step, in this order.
    """

    gives: Gives = "update"
    decay: Place | None = None
    maximize: bool = False
    stages: tuple[Stage, ...] = ()

    def start(self, g: Any, p: Any, h: Any) -> Any:
        """The gradient that the rule sees."""
        g = raw = -g if self.maximize else g
        coupled = self.decay == "gradient"
        if coupled:
            g = g + h.weight_decay * p
        if self.stages:
            at = SimpleNamespace(g=raw, p=p, coupled=h.weight_decay if coupled else None)
            for stage in self.stages:
                g = stage.at("gradient", g, at, h)
        return g

    def prepared(self, h: Mapping[str, Any]) -> dict[str, Any]:
        """`h` with what can be made of the numbers alone, once for all leaves.

        Where decay is in the step and no stage wants a say, that is what it leaves of p, and
        nobody needs the decay itself.
        """
        if self.stages or self.gives == "update" or self.decay not in ("step", "independent"):
            return dict(h)
        kept = {LEFT: 1 - self._share(SimpleNamespace(**h))}
        return {k: x for k, x in h.items() if k != "weight_decay"} | kept

    def numbers(self, h: Mapping[str, Any]) -> dict[str, Any]:
        """The numbers that the rule sees: no weight decay where the door does it, or nobody."""
        done = self.decay not in (None, "rule")
        return {"weight_decay": 0.0, **h} | ({"weight_decay": 0.0} if done else {})

    def finish(self, d: Any, g: Any, s: Any, p: Any, h: Any) -> Any:
        """The update, from what the rule gave for this gradient; `s`: the new slots by name."""
        if self.stages:
            return self._through_stages(d, g, s, p, h)
        if self.gives == "update":
            return value_of(d)
        if self.decay == "direction":
            d = value_of(d) + h.weight_decay * p
        step = self._step(d, h)
        if self.decay not in ("step", "independent"):
            return -step
        # The new parameter first: p + update is then exactly what the formula says.
        p_new = p * getattr(h, LEFT) - step
        return p_new - p

    def of_rule(self, slots: Mapping[str, Any]) -> dict[str, Any]:
        """The slots that are the rule's own."""
        return {k: x for k, x in slots.items() if k not in self._kept}

    def kept(self, slots: Mapping[str, Any]) -> dict[str, Any]:
        """The slots of the stages, which stay as they are."""
        return {k: x for k, x in slots.items() if k in self._kept}

    @property
    def _kept(self) -> set[str]:
        return {slot.name for stage in self.stages for slot in stage.spec.slots}

    def _step(self, d: Any, h: Any) -> Any:
        if self.gives == "step":
            return value_of(d)
        return d.times(h.learning_rate) if isinstance(d, Ratio) else h.learning_rate * d

    def _share(self, h: Any) -> Any:
        """What decay takes of the parameter in the step."""
        eta = 1 if self.decay == "independent" else h.learning_rate
        return eta * h.weight_decay

    def _through_stages(self, d: Any, g: Any, s: Any, p: Any, h: Any) -> Any:
        at = SimpleNamespace(
            g=-g if self.maximize else g, seen=self.start(g, p, h), p=p, s=SimpleNamespace(**s)
        )
        at.d = d = value_of(d)
        decay = self.decay
        if decay == "direction":
            at.d = d = d + self._spared(h.weight_decay, at, h) * p
        for stage in self.stages:
            if stage.takes_decay and decay == "step":
                at.d, decay = at.d + self._spared(h.weight_decay, at, h) * p, None
            at.d = stage.at("direction", at.d, at, h)
        if self.gives == "update":
            return at.d
        step = self._step(at.d, h)
        p_new = None
        if decay in ("step", "independent"):
            p_new = p * (1 - self._spared(self._share(h), at, h)) - step
        if not any(stage.parameter for stage in self.stages):
            return -step if p_new is None else p_new - p
        p_new = p - step if p_new is None else p_new
        for stage in self.stages:
            p_new = stage.at("parameter", p_new, at, h)
        return p_new - p

    def _spared(self, share: Any, at: SimpleNamespace, h: Any) -> Any:
        for stage in self.stages:
            share = stage.at("decay", share, at, h)
        return share


def value_of(d: Any) -> Any:
    """A direction, divided."""
    return d.value if isinstance(d, Ratio) else d


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
