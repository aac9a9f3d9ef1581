"""One leaf on its way through a rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jopt.core.side_by_side import NONE, Numbers
from jopt.core.transform import Add


@dataclass
class Work:
    """One leaf on its way through a rule: what goes in, and what the door puts back.

    `stored` is what the state holds of `slots`; `measured` what a door already knows of the new
    slots that their codec wants to know. `step` is what dither goes by. With an `add`, a door may
    give the parameter `moved` by its update for that update; `written` is what it has stored
    already.
    """

    index: int
    g: Any
    p: Any
    slots: dict[str, Any]
    stored: dict[str, Any]
    numbers: Numbers = NONE
    update: Any = None
    measured: dict[str, Any] = field(default_factory=dict)
    step: Any = None
    add: Add | None = None
    moved: Any = None
    written: dict[str, Any] = field(default_factory=dict)
