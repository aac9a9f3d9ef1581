"""Which of torch's schedulers, with which arguments, a jopt schedule is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jopt import schedules
from jopt.base import ConfigError, Configured, plain
from jopt.interop.torch.schedulers.kind import Named, nothing
from jopt.interop.torch.schedulers.kinds import KINDS
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
    if made in _SEVERAL:
        found = _SEVERAL[made](config["schedules"], config, base_lr, schedule)
    elif made in _CLASSES:
        name = _CLASSES[made]
        found = KINDS[name].told(name, config, schedule, base_lr)
    else:
        name = f"jopt.schedules.{made.__name__}" if made else "a plain function"
        raise nothing(f"no scheduler of torch follows {name}", schedule)
    name, base = found.name, float(found.base)
    if base_lr is not None and not math.isclose(base, base_lr, rel_tol=1e-9):
        raise nothing(f"the base rate of {name} is {base!r} here, and not {base_lr!r}", schedule)
    momenta = _momenta(name, config, momentum)
    return replace(found, base=base, arguments={**found.arguments, **momenta})


_CLASSES = {kind.factory: name for name, kind in KINDS.items() if kind.factory}
_CLASSES[schedules.constant] = "ConstantLR"


def _call(schedule: Any) -> tuple[Any, dict[str, Any]]:
    """The factory that made a schedule, and its arguments."""
    call = schedule._call if isinstance(schedule, Configured) else None
    return (None, {}) if call is None else (call.factory, dict(call.arguments))


def _join(parts: Any, config: Mapping[str, Any], wanted: Any, schedule: Any) -> Named:
    if wanted is None:  # a line leaves it open; all the others of torch's have one base rate
        alone = [named(p) for p in parts]
        fixed = [n.base for n in alone if n.name != "LinearLR"]
        wanted = fixed[0] if fixed else max(n.base for n in alone)
    children = [named(p, wanted) for p in parts]
    for i, child in enumerate(children):
        first = not i and child.name == "MultiplicativeLR"
        if child.every != 1 or child.shift or not (KINDS[child.name].child or first):
            raise nothing(f"torch's SequentialLR does not restart {parts[i]!r}", schedule)
    arguments = {"schedulers": children, "milestones": list(config["boundaries"])}
    return Named("SequentialLR", wanted, arguments)


def _product(parts: Any, config: Mapping[str, Any], wanted: Any, schedule: Any) -> Named:
    base, children = 1.0, []
    for part in parts:
        value = plain(part)
        if isinstance(value, int | float):
            base *= value
            continue
        child = named(part)
        factor = KINDS[child.name].multiplies and child.name != "ChainedScheduler"
        if not factor or child.arguments.get("eta_min") or child.every != 1:
            raise nothing(f"torch's ChainedScheduler does not multiply by {part!r}", schedule)
        base *= child.base
        children.append(child)
    if not children:
        return named(schedules.constant(base))
    return Named("ChainedScheduler", base, {"schedulers": children})


_SEVERAL: dict[Any, Callable[..., Named]] = {schedules.join: _join, schedules.product: _product}


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
