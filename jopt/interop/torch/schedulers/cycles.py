"""The classes of torch's schedulers that set the rate by themselves, some the momentum too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jopt import schedules
from jopt.base import ConfigError
from jopt.interop.torch.schedulers.kind import (
    ALONE,
    ANNEALS,
    Arguments,
    Kind,
    Named,
    exactly,
    nothing,
    python,
    within,
)
from jopt.interop.torch.schedulers.saved import Saved, called

Config = Mapping[str, Any]

_FUNCTIONS = dict.fromkeys(("_annealing_cos", "_cosine_anneal"), "cos")
_FUNCTIONS |= dict.fromkeys(("_annealing_linear", "_linear_anneal"), "linear")


def _make_cyclic(lr: Any, a: Arguments) -> Arguments:
    def whole(value: Any) -> Any:
        exact = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        return int(value) if exact else value

    return {**a, **{k: whole(a[k]) for k in ("step_size_up", "step_size_down")}}


def _tell_cyclic(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
    arguments = dict(found.arguments)
    if (own := arguments.pop("scale_fn", None)) is not None:
        arguments["scale_fn"] = python(own)
    return replace(found, arguments=arguments)


def _read_cyclic(saved: Saved) -> Arguments:
    total, ratio = saved.number("total_size"), saved.number("step_ratio")
    up = round(total * ratio, 6)
    custom = saved.state.get("_scale_fn_custom", saved.state.get("scale_fn"))
    if called(custom) == f"_{saved.state['mode']}_scale_fn":  # torch's own, in older files
        custom = None
    natural = "iterations" if saved.state["mode"] == "exp_range" else "cycle"
    own = custom is not None or saved.given.get("scale_fn") is not None
    scale = {"mode": saved.state["mode"]}
    if own or saved.state["scale_mode"] != natural:
        scale = {"scale_fn": saved.function("scale_fn", custom)}
        scale["scale_mode"] = saved.state["scale_mode"]
    else:
        scale["gamma"] = saved.number("gamma")
    return {
        **_momenta(saved, lambda key: saved.own(f"{key}s")),
        "base_lr": saved.base(),
        "max_lr": saved.own("max_lrs"),
        "step_size_up": up,
        "step_size_down": round(total - up, 6),
        **scale,
    }


def _momenta(saved: Saved, end: Any) -> Arguments:
    if not saved.flag("cycle_momentum"):
        return {"cycle_momentum": False}
    return {"cycle_momentum": True, **{k: end(k) for k in ("base_momentum", "max_momentum")}}


def _annealed(who: str, a: Arguments) -> Arguments:
    strategy, problem = a["anneal_strategy"], "there is no such anneal_strategy"
    if strategy not in ("cos", "linear"):
        wanted, found = "'cos' or 'linear'", repr(strategy)
        raise ConfigError(f"torch.{who}", problem, expected=wanted, found=found)
    return {**a, "anneal_strategy": ANNEALS.get(strategy, strategy)}


def _make_onecycle(lr: Any, a: Arguments) -> Arguments:
    for name in ("div_factor", "final_div_factor"):
        known = isinstance(a[name], int | float)
        within("OneCycleLR", name, a[name], "(0, inf)", not known or a[name] > 0)
    if a["total_steps"] is None:
        both = [a["epochs"], a["steps_per_epoch"]]
        if None in both:
            problem = "needs total_steps, or both of epochs and steps_per_epoch"
            raise ConfigError("torch.OneCycleLR", problem)
        for name, value in zip(("epochs", "steps_per_epoch"), both, strict=True):
            whole = type(value) is int and value >= 1
            within("OneCycleLR", name, value, "an int of at least 1", whole)
        a = {**a, "total_steps": math.prod(both)}
    return _annealed("OneCycleLR", a)


def _tell_onecycle(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
    arguments = {**found.arguments, "pct_start": float(config["pct_start"])}
    return replace(found, base=found.base / config["div_factor"], arguments=arguments)


def _read_onecycle(saved: Saved) -> Arguments:
    total, phases = saved.number("total_steps"), saved.state.get("_schedule_phases", ())
    if phases == ():  # torch before 1.8, which had no third phase
        phases = [{"end_step": saved.number("step_size_up")}, {"end_step": total - 1}]
    low, high, last = (saved.in_group(k) for k in ("initial_lr", "max_lr", "min_lr"))
    return {
        **_momenta(saved, saved.in_group),
        "max_lr": high,
        "total_steps": total,
        "pct_start": min(1.0, (float(phases[0]["end_step"]) + 1) / total),
        "anneal_strategy": saved.strategy("_anneal_func_type", "anneal_func", _FUNCTIONS),
        "div_factor": high / low,
        "final_div_factor": low / last,
        "three_phase": len(phases) == 3,
    }


def _read_plateau(saved: Saved) -> Arguments:
    same = "mode factor patience threshold threshold_mode cooldown eps"
    return {k: saved.number(k) for k in same.split()} | {"min_lr": saved.own("min_lrs")}


def _no_step(saved: Saved) -> Any:
    raise ConfigError(saved.who, ALONE)


def _tell_swa(found: Named, config: Config, schedule: Any, wanted: Any) -> Named:
    if callable(config["init_value"]) or config["start"]:
        raise nothing("torch's SWALR starts from a number, at its own step 0", schedule)
    return found


def _read_swa(saved: Saved) -> Arguments:
    over = saved.number("_step_count") > saved.number("anneal_epochs")
    known = saved.param_groups is not None or not over
    return {
        "swa_lr": saved.in_group("swa_lr") if known else saved.own("_last_lr"),
        "anneal_epochs": saved.number("anneal_epochs"),
        "anneal_strategy": saved.strategy("_anneal_strategy", "anneal_func", _FUNCTIONS),
    }


def _swa_began(saved: Saved, kwargs: Arguments, epoch: int) -> float:
    """The rate SWALR started from: the group's own, or what another scheduler had left there."""
    base, target, now = saved.base(), kwargs["swa_lr"], saved.own("_last_lr")
    done = exactly(CYCLES["SWALR"].built(0.0, {**kwargs, "swa_lr": 1.0}), epoch)
    expected = base * (1 - done) + target * done
    if saved.base_lr is not None or done >= 1 or abs(expected - now) <= 1e-12 * abs(now):
        return base
    return float((now - done * target) / (1 - done))


CYCLES = {
    "CyclicLR": Kind(
        schedules.cyclic,
        "base_lr=base_value max_lr=max_value step_size_up=steps_up step_size_down=steps_down mode "
        "gamma scale_fn scale_mode cycle_momentum= base_momentum= max_momentum=",
        schedules.cyclic_momentum,
        defaults={"cycle_momentum": True, "base_momentum": 0.8, "max_momentum": 0.9},
        state="max_lrs total_size step_ratio mode gamma scale_mode cycle_momentum",
        beside="use_beta1 base_momentums max_momentums _scale_fn_custom _scale_fn_ref scale_fn",
        given="scale_fn",
        child=False,
        make=_make_cyclic,
        tell=_tell_cyclic,
        read=_read_cyclic,
    ),
    "OneCycleLR": Kind(
        schedules.onecycle,
        "max_lr=peak_value total_steps epochs= steps_per_epoch= pct_start anneal_strategy=anneal "
        "cycle_momentum= base_momentum= max_momentum= div_factor final_div_factor three_phase",
        schedules.onecycle_momentum,
        defaults={
            **dict.fromkeys(("total_steps", "epochs", "steps_per_epoch")),
            "cycle_momentum": True,
            "base_momentum": 0.85,
            "max_momentum": 0.95,
            "anneal_strategy": "cos",
        },
        state="total_steps cycle_momentum",
        beside="use_beta1 _schedule_phases _anneal_func_type anneal_func step_size_up "
        "step_size_down",
        given="anneal_strategy",
        child=False,
        make=_make_onecycle,
        tell=_tell_onecycle,
        read=_read_onecycle,
    ),
    "ReduceLROnPlateau": Kind(
        schedules.plateau,
        "mode factor patience threshold threshold_mode cooldown min_lr=min_value eps",
        state="mode factor patience threshold threshold_mode cooldown min_lrs eps best "
        "cooldown_counter num_bad_epochs",
        beside="default_min_lr mode_worse",
        given="nan",
        read=_read_plateau,
        stands=_no_step,
    ),
    "SWALR": Kind(
        schedules.swa,
        "swa_lr=swa_value anneal_epochs=steps anneal_strategy=anneal",
        defaults={"anneal_strategy": "cos"},
        state="anneal_epochs",
        beside="_anneal_strategy anneal_func",
        given="anneal_strategy",
        child=False,
        make=lambda lr, a: _annealed("SWALR", a),
        tell=_tell_swa,
        read=_read_swa,
        stands=lambda saved: saved.number("_step_count") - 1,  # driven by the number of its calls
        began=_swa_began,
    ),
}
