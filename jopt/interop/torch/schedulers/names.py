"""Which of torch's schedulers, with which arguments, a jopt schedule is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jopt import schedules
from jopt.base import ConfigError, Configured
from jopt.interop.torch.schedulers.kind import KINDS, Named, nothing
from jopt.interop.torch.schedulers.paced import paced, resumed

# Of these torch takes a list with one for each parameter group.
GROUP_ARGUMENTS = frozenset(
    {"base_lr", "base_momentum", "lr_lambda", "max_lr", "max_momentum", "min_lr", "swa_lr"}
)


def named(schedule: Any, base_lr: float | None = None, momentum: Any = None) -> Named:
    """Torch's scheduler that a jopt schedule follows, or a `ConfigError`."""
    made, config = _call(schedule)
    if made is paced:
        inner = named(config["schedule"], base_lr, momentum)
        return replace(inner, every=config["every"], shift=config["shift"])
    if made is resumed:
        return named(config["plateau"], base_lr, momentum)
    classes = {kind.factory: name for name, kind in KINDS.items()}
    name = {**classes, schedules.constant: "ConstantLR"}.get(made)
    if name is None:
        told = f"jopt.schedules.{made.__name__}" if made else "a plain function"
        raise nothing(f"no scheduler of torch follows {told}", schedule)
    within = KINDS[name].within
    tell = within.tell if within else KINDS[name].told
    found = tell(name, config, schedule, base_lr)
    name, base = found.name, float(found.base)
    if base_lr is not None and not math.isclose(base, base_lr, rel_tol=1e-9):
        raise nothing(f"the base rate of {name} is {base!r} here, and not {base_lr!r}", schedule)
    momenta = _momenta(name, config, momentum)
    return replace(found, base=base, arguments={**found.arguments, **momenta})


def _call(schedule: Any) -> tuple[Any, dict[str, Any]]:
    """The factory that made a schedule, and its arguments."""
    call = schedule._call if isinstance(schedule, Configured) else None
    return (None, {}) if call is None else (call.factory, dict(call.arguments))


def _momenta(name: str, config: Mapping[str, Any], momentum: Any) -> dict[str, Any]:
    """What `OneCycleLR` and `CyclicLR` take for the momentum, if its schedule keeps their step."""
    own = KINDS[name].momentum
    if momentum is None:
        return {"cycle_momentum": False} if own else {}
    made, other = _call(momentum)
    if made is paced:
        made, other = _call(other["schedule"])
    shape = {k: v for k, v in other.items() if k not in ("base_value", "max_value")}
    if made is None or own is not made or any(config[k] != v for k, v in shape.items()):
        raise ConfigError(
            "export_scheduler",
            f"the momentum does not keep step with {name}",
            expected="cyclic_momentum or onecycle_momentum, with the arguments of the rate",
            found=repr(momentum),
        )
    ends = {"base_momentum": other["base_value"], "max_momentum": other["max_value"]}
    return {"cycle_momentum": True, **ends}
