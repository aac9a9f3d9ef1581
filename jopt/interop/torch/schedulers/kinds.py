"""Every class of torch's schedulers, as one record each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jopt import schedules
from jopt.interop.torch.schedulers.cycles import CYCLES
from jopt.interop.torch.schedulers.kind import (
    KINDS,
    Arguments,
    Kind,
    Named,
    nothing,
    python,
    within,
)
from jopt.interop.torch.schedulers.saved import Saved
from jopt.interop.torch.schedulers.several import SEVERAL

Config = Mapping[str, Any]


def _still(found: Named, base: Any) -> Named:
    return replace(found, name="ConstantLR", base=base, arguments={"factor": 1.0, "total_iters": 0})


def _make_constant(lr: Any, a: Arguments) -> Arguments:
    within("ConstantLR", "factor", a["factor"], "[0, 1]", 0 <= a["factor"] <= 1)
    return a


def _tell_constant(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
    if not config.get("steps"):
        return _still(found, found.base)
    if not 0 < config["factor"] <= 1:
        raise nothing("torch's ConstantLR wants a factor above 0, and at most 1", schedule)
    return found


def _make_linear(lr: Any, a: Arguments) -> Arguments:
    start, end = a["start_factor"], a["end_factor"]
    within("LinearLR", "start_factor", start, "(0, 1]", 0 < start <= 1)
    within("LinearLR", "end_factor", end, "[0, 1]", 0 <= end <= 1)
    return {**a, "start_factor": lr * start, "end_factor": lr * end}


def _tell_linear(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
    start, end = float(config["init_value"]), float(config["end_value"])
    if config["steps"] == 0:
        return _still(found, end)
    base = max(start, end) if wanted is None else float(wanted)
    if start <= 0 or not base >= max(start, end) or end < 0:
        raise nothing(
            f"torch's LinearLR starts above 0 and stays within the base rate, {base!r}", schedule
        )
    factors = {"start_factor": start / base, "end_factor": end / base}
    return replace(found, base=base, arguments={**found.arguments, **factors})


def _tell_exponential(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
    gamma, steps = float(config["gamma"]), config["steps"]
    if config["begin"] != 0 or config["end_value"] is not None:
        raise nothing("torch's ExponentialLR neither waits nor stops", schedule)
    if config["staircase"]:
        return replace(found, name="StepLR", arguments={"step_size": steps, "gamma": gamma})
    return replace(found, arguments={"gamma": gamma ** (1 / steps)})


def _tell_polynomial(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
    if config["end_value"]:
        raise nothing("torch's PolynomialLR ends at 0", schedule)
    return found


def _restart_stands(saved: Saved) -> Any:
    if not isinstance(saved.state["T_cur"], float):
        return saved.number("last_epoch")
    period, start = saved.number("T_0"), 0
    while period < saved.number("T_i"):
        start, period = start + period, period * saved.number("T_mult")
    if saved.number("T_mult") == 1:
        start = saved.number("last_epoch") // period * period
    return start + float(saved.state["T_cur"])


def _read_milestones(saved: Saved) -> Arguments:
    marks = saved.state["milestones"]
    # A Counter, which JSON and msgpack turn into a dict, perhaps with keys that are strings.
    rows = (
        [int(k) for k, n in marks.items() for _ in range(n)] if hasattr(marks, "items") else marks
    )
    return {"milestones": sorted(int(m) for m in rows), "gamma": saved.number("gamma")}


def _of_a_function(name: str, factory: Any, **more: Any) -> Kind:
    """A class whose factors are what a function of the user's gives."""

    def make(lr: Any, a: Arguments) -> Arguments:
        steps = a["steps"]  # calls that can be made now; whether a number at all, schedules say
        few = not isinstance(steps, int) or steps <= 10**7
        within(name, "steps", steps, "at most 10⁷ calls", few)
        return a

    def tell(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
        f, last = python(config["function"]), config["steps"]
        then: Callable[[int], Any] = f
        if last is not None:  # jopt's is a table then, which stays at its last entry
            stays = name == "LambdaLR"

            def then(t: int) -> Any:
                return f(min(t, last)) if stays or t <= last else 1.0

        return replace(found, arguments={"lr_lambda": then})

    def read(saved: Saved) -> Arguments:
        kept = {k: v for k, v in saved.given.items() if k == "steps"}
        return {"lr_lambda": saved.function("lr_lambda", saved.entry("lr_lambdas")), **kept}

    kind = {"state": "lr_lambdas", "given": "lr_lambda steps", **more}
    return Kind(factory, "lr_lambda=function steps", make=make, tell=tell, read=read, **kind)


_ALL = {
    "ConstantLR": Kind(
        schedules.constant_factor,
        "factor total_iters=steps",
        multiplies=True,
        make=_make_constant,
        tell=_tell_constant,
    ),
    "CosineAnnealingLR": Kind(
        schedules.cosine_annealing, "T_max=steps eta_min=end_value", multiplies=True
    ),
    "CosineAnnealingWarmRestarts": Kind(
        schedules.cosine_restarts,
        "T_0=steps T_mult=multiplier eta_min=end_value",
        state="T_0 T_i T_mult eta_min T_cur",
        stands=_restart_stands,
    ),
    "ExponentialLR": Kind(schedules.exponential, "gamma", multiplies=True, tell=_tell_exponential),
    "LambdaLR": _of_a_function("LambdaLR", schedules.scaled),
    "LinearLR": Kind(
        schedules.linear,
        "start_factor=init_value end_factor=end_value total_iters=steps",
        defaults={"start_factor": 1.0 / 3, "end_factor": 1.0, "total_iters": 5},
        multiplies=True,
        make=_make_linear,
        tell=_tell_linear,
    ),
    "MultiStepLR": Kind(
        schedules.multistep, "milestones gamma", multiplies=True, read=_read_milestones
    ),
    "MultiplicativeLR": _of_a_function(
        "MultiplicativeLR", schedules.multiplicative, multiplies=True, child=False
    ),
    "PolynomialLR": Kind(
        schedules.polynomial,
        "total_iters=steps power",
        defaults={"total_iters": 5},
        multiplies=True,
        tell=_tell_polynomial,
    ),
    "StepLR": Kind(schedules.step, "step_size gamma", multiplies=True),
    **CYCLES,
    **SEVERAL,
}
KINDS.update(sorted(_ALL.items()))
