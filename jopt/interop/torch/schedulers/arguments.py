"""What torch's scheduler was built with, read back from its state dict.

torch's schedulers save everything they were given but functions, and but what `OneCycleLR` and
`SWALR` keep in the optimizer's parameter groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jopt.base import CheckpointError, ConfigError, JoptError
from jopt.interop.torch.schedulers.saved import KEYS, Saved, called

_ANNEALS = {
    "_annealing_cos": "cos",
    "_annealing_linear": "linear",
    "_cosine_anneal": "cos",
    "_linear_anneal": "linear",
}


def _function(saved: Saved) -> dict[str, Any]:
    kept = {k: v for k, v in saved.given.items() if k == "steps"}
    return {"lr_lambda": saved.function("lr_lambda", saved.entry("lr_lambdas")), **kept}


def _milestones(saved: Saved) -> dict[str, Any]:
    marks = saved.state["milestones"]
    # A Counter, which JSON and msgpack turn into a dict, perhaps with keys that are strings.
    rows = (
        [int(k) for k, n in marks.items() for _ in range(n)] if hasattr(marks, "items") else marks
    )
    return {"milestones": sorted(int(m) for m in rows), "gamma": saved.number("gamma")}


def _cyclic(saved: Saved) -> dict[str, Any]:
    total, ratio = saved.number("total_size"), saved.number("step_ratio")
    up = round(total * ratio, 6)
    custom = saved.state.get("_scale_fn_custom", saved.state.get("scale_fn"))
    if called(custom) == f"_{saved.state['mode']}_scale_fn":  # torch's own, in older files
        custom = None
    natural = "iterations" if saved.state["mode"] == "exp_range" else "cycle"
    own = custom is not None or saved.given.get("scale_fn") is not None
    if own or saved.state["scale_mode"] != natural:
        scale = {
            "scale_fn": saved.function("scale_fn", custom),
            "scale_mode": saved.state["scale_mode"],
        }
    else:
        scale = {"mode": saved.state["mode"], "gamma": saved.number("gamma")}
    momenta = {"cycle_momentum": saved.flag("cycle_momentum")}
    if momenta["cycle_momentum"]:
        momenta |= {f"{end}_momentum": saved.own(f"{end}_momentums") for end in ("base", "max")}
    return {
        "base_lr": saved.base(),
        "max_lr": saved.own("max_lrs"),
        "step_size_up": up,
        "step_size_down": round(total - up, 6),
        **scale,
        **momenta,
    }


def _onecycle(saved: Saved) -> dict[str, Any]:
    total, phases = saved.number("total_steps"), saved.state.get("_schedule_phases", ())
    if phases == ():  # torch before 1.8, which had no third phase
        phases = [{"end_step": saved.number("step_size_up")}, {"end_step": total - 1}]
    low, high, last = (saved.in_group(k) for k in ("initial_lr", "max_lr", "min_lr"))
    momenta = {"cycle_momentum": saved.flag("cycle_momentum")}
    if momenta["cycle_momentum"]:
        momenta |= {k: saved.in_group(k) for k in ("base_momentum", "max_momentum")}
    return {
        "max_lr": high,
        "total_steps": total,
        "pct_start": min(1.0, (float(phases[0]["end_step"]) + 1) / total),
        "anneal_strategy": saved.strategy("_anneal_func_type", "anneal_func", _ANNEALS),
        "div_factor": high / low,
        "final_div_factor": low / last,
        "three_phase": len(phases) == 3,
        **momenta,
    }


def _plateau(saved: Saved) -> dict[str, Any]:
    same = "mode factor patience threshold threshold_mode cooldown eps"
    return {k: saved.number(k) for k in same.split()} | {"min_lr": saved.own("min_lrs")}


def _swa(saved: Saved) -> dict[str, Any]:
    over = saved.number("_step_count") > saved.number("anneal_epochs")
    known = saved.param_groups is not None or not over
    return {
        "swa_lr": saved.in_group("swa_lr") if known else saved.own("_last_lr"),
        "anneal_epochs": saved.number("anneal_epochs"),
        "anneal_strategy": saved.strategy("_anneal_strategy", "anneal_func", _ANNEALS),
    }


def _numbers(saved: Saved) -> dict[str, Any]:
    return {key: saved.number(key) for key in KEYS[saved.name].split()}


def _restarts(saved: Saved) -> dict[str, Any]:
    return {key: saved.number(key) for key in ("T_0", "T_mult", "eta_min")}


def _others(saved: Saved) -> dict[str, Any]:
    """Those within have the arguments."""
    return {}


_READERS: dict[str, Callable[[Saved], dict[str, Any]]] = {
    "ChainedScheduler": _others,
    "CosineAnnealingWarmRestarts": _restarts,
    "CyclicLR": _cyclic,
    "LambdaLR": _function,
    "MultiStepLR": _milestones,
    "MultiplicativeLR": _function,
    "OneCycleLR": _onecycle,
    "ReduceLROnPlateau": _plateau,
    "SWALR": _swa,
    "SequentialLR": _others,
}
TAKES = {
    "ChainedScheduler": {"schedulers"},
    "CyclicLR": {"scale_fn"},
    "LambdaLR": {"lr_lambda", "steps"},
    "MultiplicativeLR": {"lr_lambda", "steps"},
    "OneCycleLR": {"anneal_strategy"},
    "ReduceLROnPlateau": {"nan"},
    "SWALR": {"anneal_strategy"},
    "SequentialLR": {"schedulers"},
}


def arguments(saved: Saved) -> dict[str, Any]:
    """Torch's arguments for the scheduler, of the saved class, in this parameter group."""
    unknown = set(saved.given) - TAKES.get(saved.name, set())
    if unknown:
        raise ConfigError(
            saved.who,
            f"{min(unknown)!r} is in the state dict, or no argument of {saved.name}",
            expected=", ".join(sorted(TAKES.get(saved.name, ()))) or "no further argument",
        )
    try:
        return _READERS.get(saved.name, _numbers)(saved)
    except JoptError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            saved.who, "what it says of itself is damaged", found=repr(error)
        ) from None
