"""Which of torch's schedulers, with which arguments, a jopt schedule is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jopt import schedules
from jopt.base import ConfigError, Configured, plain
from jopt.interop.torch.schedulers.paced import paced, resumed
from jopt.schedules import Plateau

# Of these torch takes a list with one for each parameter group.
GROUP_ARGUMENTS = frozenset(
    {"base_lr", "base_momentum", "lr_lambda", "max_lr", "max_momentum", "min_lr", "swa_lr"}
)


@dataclass(frozen=True)
class Named:
    """A scheduler of torch's: class, base rate, arguments, and the pace at which it steps.

    **Attributes:** `schedulers` in `arguments` is a list of these.
    """

    name: str
    base: float
    arguments: dict[str, Any]
    every: int = 1
    shift: int = 0


def named(schedule: Any, base_lr: float | None = None, momentum: Any = None) -> Named:
    """Torch's scheduler that a jopt schedule follows, or a `ConfigError`."""
    made, config = _call(schedule)
    if made is paced:
        inner = named(config["schedule"], base_lr, momentum)
        every, shift = config["every"], config["shift"]
        return Named(inner.name, inner.base, inner.arguments, every, shift)
    if made is resumed:
        return named(config["plateau"], base_lr, momentum)
    if made not in _NAMES:
        name = f"jopt.schedules.{made.__name__}" if made else "a plain function"
        raise _nothing(f"no scheduler of torch follows {name}", schedule)
    name, base, arguments = _NAMES[made](config, base_lr, schedule)
    if base_lr is not None and not math.isclose(base, base_lr, rel_tol=1e-9):
        raise _nothing(f"the base rate of {name} is {base!r} here, and not {base_lr!r}", schedule)
    return Named(name, base, {**arguments, **_momenta(name, config, momentum)})


def _call(schedule: Any) -> tuple[Any, dict[str, Any]]:
    """The factory that made a schedule, and its arguments."""
    call = schedule._call if isinstance(schedule, Configured) else None
    return (None, {}) if call is None else (call.factory, dict(call.arguments))


def _nothing(problem: str, schedule: Any) -> ConfigError:
    return ConfigError(
        "export_scheduler",
        problem,
        found=repr(schedule),
        fix=None
        if isinstance(schedule, Plateau)
        else "as_lambda=True makes a LambdaLR that calls it.",
    )


Found = tuple[str, float, dict[str, Any]]


def _same(name: str, base: str = "init_value", **keys: str) -> Callable[..., Found]:
    """A class whose arguments are jopt's under other names: `torch=jopt`."""

    def found(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
        del wanted, schedule
        return name, float(config[base]), {k: _value(config[v]) for k, v in keys.items()}

    return found


def _value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else plain(value)


def _exponential(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    gamma, steps = float(config["gamma"]), config["steps"]
    if config["begin"] != 0 or config["end_value"] is not None:
        raise _nothing("torch's ExponentialLR neither waits nor stops", schedule)
    if config["staircase"]:
        return "StepLR", float(config["init_value"]), {"step_size": steps, "gamma": gamma}
    return "ExponentialLR", float(config["init_value"]), {"gamma": gamma ** (1 / steps)}


def _constant(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    return "ConstantLR", float(config["value"]), {"factor": 1.0, "total_iters": 0}


def _constant_factor(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    if config["steps"] == 0:
        return _constant(config, wanted, schedule)
    if not 0 < config["factor"] <= 1:
        raise _nothing("torch's ConstantLR wants a factor above 0, and at most 1", schedule)
    kwargs = {"factor": config["factor"], "total_iters": config["steps"]}
    return "ConstantLR", float(config["value"]), kwargs


def _linear(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    start, end = float(config["init_value"]), float(config["end_value"])
    if config["steps"] == 0:
        return _constant({"value": end}, wanted, schedule)
    base = max(start, end) if wanted is None else float(wanted)
    if start <= 0 or not base >= max(start, end) or end < 0:
        raise _nothing(
            f"torch's LinearLR starts above 0 and stays within the base rate, {base!r}", schedule
        )
    factors = {"start_factor": start / base, "end_factor": end / base}
    return "LinearLR", base, {**factors, "total_iters": config["steps"]}


def _polynomial(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    if config["end_value"]:
        raise _nothing("torch's PolynomialLR ends at 0", schedule)
    kwargs = {"total_iters": config["steps"], "power": config["power"]}
    return "PolynomialLR", float(config["init_value"]), kwargs


def _function(name: str) -> Callable[..., Found]:
    def found(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
        f, last = _python(config["function"]), config["steps"]
        then = f
        if last is not None:  # jopt's is a table then, which stays at its last entry
            stays = name == "LambdaLR"

            def then(t: int) -> Any:
                return f(min(t, last)) if stays or t <= last else 1.0

        return name, float(config["init_value"]), {"lr_lambda": then}

    return found


def _python(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of jax arrays as one of Python numbers, which is what torch saves."""
    return lambda t: plain(f(t))


def _cyclic(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    keys = ("mode", "gamma", "scale_fn", "scale_mode")
    kwargs = {"base_lr": config["base_value"], "max_lr": config["max_value"]}
    steps = {"step_size_up": config["steps_up"], "step_size_down": config["steps_down"]}
    shape = {k: config[k] for k in keys if k != "scale_fn" or config[k] is not None}
    if "scale_fn" in shape:
        shape["scale_fn"] = _python(shape["scale_fn"])
    return "CyclicLR", float(config["base_value"]), kwargs | steps | shape


def _onecycle(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    same = ("total_steps", "div_factor", "final_div_factor", "three_phase")
    kwargs = {"max_lr": config["peak_value"], "pct_start": float(config["pct_start"])}
    kwargs["anneal_strategy"] = "cos" if config["anneal"] == "cosine" else "linear"
    base = config["peak_value"] / config["div_factor"]
    return "OneCycleLR", float(base), kwargs | {k: config[k] for k in same}


def _plateau(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    same = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "eps")
    kwargs = {k: config[k] for k in same} | {"min_lr": config["min_value"]}
    return "ReduceLROnPlateau", float(config["init_value"]), kwargs


def _swa(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    if callable(config["init_value"]) or config["start"]:
        raise _nothing("torch's SWALR starts from a number, at its own step 0", schedule)
    kwargs = {"swa_lr": config["swa_value"], "anneal_epochs": config["steps"]}
    kwargs["anneal_strategy"] = "cos" if config["anneal"] == "cosine" else "linear"
    return "SWALR", float(config["init_value"]), kwargs


# They overwrite the base rate of the others, or cannot start anew, within a sequence of torch's.
_NO_CHILD = frozenset(
    {"ChainedScheduler", "CyclicLR", "MultiplicativeLR", "OneCycleLR", "SWALR", "SequentialLR"}
)


def _join(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    parts, marks = list(config["schedules"]), list(config["boundaries"])
    if wanted is None:  # a line leaves it open; all the others of torch's have one base rate
        alone = [named(p) for p in parts]
        fixed = [n.base for n in alone if n.name != "LinearLR"]
        wanted = fixed[0] if fixed else max(n.base for n in alone)
    children = [named(p, wanted) for p in parts]
    for i, child in enumerate(children):
        first = not i and child.name == "MultiplicativeLR"
        if child.every != 1 or child.shift or (child.name in _NO_CHILD and not first):
            raise _nothing(f"torch's SequentialLR does not restart {parts[i]!r}", schedule)
    return "SequentialLR", float(wanted), {"schedulers": children, "milestones": marks}


def _product(config: Mapping[str, Any], wanted: Any, schedule: Any) -> Found:
    base, children = 1.0, []
    for part in config["schedules"]:
        value = plain(part)
        if isinstance(value, int | float):
            base *= value
            continue
        child = named(part)
        if child.name in _NO_FACTOR or child.arguments.get("eta_min") or child.every != 1:
            raise _nothing(f"torch's ChainedScheduler does not multiply by {part!r}", schedule)
        base *= child.base
        children.append(child)
    if not children:
        return _constant({"value": base}, wanted, schedule)
    return "ChainedScheduler", base, {"schedulers": children}


_NO_FACTOR = (_NO_CHILD - {"MultiplicativeLR"}) | {
    "CosineAnnealingWarmRestarts",
    "LambdaLR",
    "ReduceLROnPlateau",
}
_NAMES: dict[Any, Callable[..., Found]] = {
    schedules.constant: _constant,
    schedules.constant_factor: _constant_factor,
    schedules.cosine_annealing: _same("CosineAnnealingLR", T_max="steps", eta_min="end_value"),
    schedules.cosine_restarts: _same(
        "CosineAnnealingWarmRestarts", T_0="steps", T_mult="multiplier", eta_min="end_value"
    ),
    schedules.cyclic: _cyclic,
    schedules.exponential: _exponential,
    schedules.join: _join,
    schedules.linear: _linear,
    schedules.multiplicative: _function("MultiplicativeLR"),
    schedules.multistep: _same("MultiStepLR", milestones="milestones", gamma="gamma"),
    schedules.onecycle: _onecycle,
    schedules.plateau: _plateau,
    schedules.polynomial: _polynomial,
    schedules.product: _product,
    schedules.scaled: _function("LambdaLR"),
    schedules.step: _same("StepLR", step_size="step_size", gamma="gamma"),
    schedules.swa: _swa,
}


def _momenta(name: str, config: Mapping[str, Any], momentum: Any) -> dict[str, Any]:
    """What `OneCycleLR` and `CyclicLR` take for the momentum, if its schedule keeps their step."""
    kin = {"CyclicLR": schedules.cyclic_momentum, "OneCycleLR": schedules.onecycle_momentum}
    if momentum is None:
        return {"cycle_momentum": False} if name in kin else {}
    made, other = _call(momentum)
    if made is paced:
        made, other = _call(other["schedule"])
    shape = {k: v for k, v in other.items() if k not in ("base_value", "max_value")}
    if made is None or kin.get(name) is not made or any(config[k] != v for k, v in shape.items()):
        raise ConfigError(
            "export_scheduler",
            f"the momentum does not keep step with {name}",
            expected="cyclic_momentum or onecycle_momentum, with the arguments of the rate",
            found=repr(momentum),
        )
    ends = {"base_momentum": other["base_value"], "max_momentum": other["max_value"]}
    return {"cycle_momentum": True, **ends}
