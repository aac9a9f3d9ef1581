"""What acts between an optimizer's direction and its step, declared once for all optimizers.

A `Stage` says like an optimizer what it adds to the numbers and slots of one, and gives a function
for each place at which it acts. `Ending` calls them, inside the kernel of the rule:

    g ← gradient(g)            what the rule sees
    d ← rule(g)
    d ← direction(d)
    λ ← decay(λ)               the part of p that decay takes, entry by entry
    p ← parameter(p − λ·p − η·d)

Each is `f(x, at, h)`: `h` has the numbers; `at` the gradient `g` before coupled decay,
`seen`, the one that the rule saw, the parameter `p` and its new slots `s`; where they are known,
the direction `d` and `coupled`, the λ within the gradient that the rule sees, or `None`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from jopt.core.spec import Spec

Act = Callable[..., Any]
Place = Literal["gradient", "direction", "decay", "parameter"]


@dataclass(frozen=True)
class Stage:
    """One of them; a static part of the program, so its functions stand at the top of a module.

    - `spec`: its name, its numbers, the slots that it keeps as they begin, and whether it treats
      entries alone; with `needs_params` it reads the parameter.
    - `choices`: its static choices, as a checkpoint records them.
    - `gradient`, `direction`, `decay`, `parameter`: what it does at each place.
    - `after_rule`: whether it makes sense where the learning rate is within what the rule gives.
    - `takes_decay`: it acts on the direction with decoupled decay in it.
    - `ends_decay`: what it does stands for decay, so there is none beside it.
    - `reads_gradient`: it compares with the gradient, which a direction made before is not.
    - `reads_slots`: it reads slots of the rule, as arrays like the parameter.
    """

    spec: Spec
    choices: tuple[tuple[str, Any], ...] = ()
    gradient: Act | None = None
    direction: Act | None = None
    decay: Act | None = None
    parameter: Act | None = None
    after_rule: bool = False
    takes_decay: bool = False
    ends_decay: bool = False
    reads_gradient: bool = False
    reads_slots: bool = False

    @property
    def name(self) -> str:
        """The name of its wrapper."""
        return self.spec.name

    def at(self, place: Place, x: Any, at: SimpleNamespace, h: Any) -> Any:
        """What it makes of `x` at this place."""
        act: Act | None = getattr(self, place)
        return x if act is None else act(x, at, h)
