"""Each single scheduler of torch, with torch's signature, as a jopt schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jopt import schedules
from jopt.base import ConfigError
from jopt.schedules import Plateau, Schedule

Both = tuple[Schedule, Schedule]  # for the rate, and for the momentum


def _within(who: str, name: str, value: Any, valid: str, allowed: bool) -> None:
    if not allowed:
        raise ConfigError(f"torch.{who}", f"{name} is out of range", expected=valid, found=value)


def _whole(value: Any) -> Any:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def _anneal(who: str, strategy: str) -> Any:
    if strategy not in ("cos", "linear"):
        raise ConfigError(
            f"torch.{who}",
            "there is no such anneal_strategy",
            expected="'cos' or 'linear'",
            found=repr(strategy),
        )
    return {"cos": "cosine"}.get(strategy, strategy)


def _table(who: str, steps: Any) -> Any:
    """A number of calls that can be made now; whether it is one at all, schedules say."""
    _within(who, "steps", steps, "at most 10⁷ calls", not isinstance(steps, int) or steps <= 10**7)
    return steps


def lambda_lr(lr: Any, lr_lambda: Any, steps: Any = None) -> Schedule:
    """Torch's `LambdaLR`."""
    return schedules.scaled(lr, lr_lambda, steps=_table("LambdaLR", steps))


def multiplicative_lr(lr: Any, lr_lambda: Any, steps: Any = None) -> Schedule:
    """Torch's `MultiplicativeLR`."""
    return schedules.multiplicative(lr, lr_lambda, steps=_table("MultiplicativeLR", steps))


def step_lr(lr: Any, step_size: Any, gamma: Any = 0.1) -> Schedule:
    """Torch's `StepLR`."""
    return schedules.step(lr, step_size, gamma)


def multistep_lr(lr: Any, milestones: Any, gamma: Any = 0.1) -> Schedule:
    """Torch's `MultiStepLR`."""
    return schedules.multistep(lr, list(milestones), gamma)


def constant_lr(lr: Any, factor: Any = 1.0 / 3, total_iters: Any = 5) -> Schedule:
    """Torch's `ConstantLR`."""
    _within("ConstantLR", "factor", factor, "[0, 1]", 0 <= factor <= 1)
    return schedules.constant_factor(lr, factor, total_iters)


def linear_lr(
    lr: Any, start_factor: Any = 1.0 / 3, end_factor: Any = 1.0, total_iters: Any = 5
) -> Schedule:
    """Torch's `LinearLR`."""
    _within("LinearLR", "start_factor", start_factor, "(0, 1]", 0 < start_factor <= 1)
    _within("LinearLR", "end_factor", end_factor, "[0, 1]", 0 <= end_factor <= 1)
    return schedules.linear(lr * start_factor, lr * end_factor, total_iters)


def exponential_lr(lr: Any, gamma: Any) -> Schedule:
    """Torch's `ExponentialLR`."""
    return schedules.exponential(lr, gamma)


def polynomial_lr(lr: Any, total_iters: Any = 5, power: Any = 1.0) -> Schedule:
    """Torch's `PolynomialLR`."""
    return schedules.polynomial(lr, total_iters, power)


def cosine_lr(lr: Any, T_max: Any, eta_min: Any = 0.0) -> Schedule:
    """Torch's `CosineAnnealingLR`."""
    return schedules.cosine_annealing(lr, T_max, eta_min)


def restarts_lr(lr: Any, T_0: Any, T_mult: Any = 1, eta_min: Any = 0.0) -> Schedule:
    """Torch's `CosineAnnealingWarmRestarts`."""
    return schedules.cosine_restarts(lr, T_0, T_mult, eta_min)


def cyclic_lr(
    lr: Any,
    base_lr: Any,
    max_lr: Any,
    step_size_up: Any = 2000,
    step_size_down: Any = None,
    mode: Any = "triangular",
    gamma: Any = 1.0,
    scale_fn: Any = None,
    scale_mode: Any = "cycle",
    cycle_momentum: Any = True,
    base_momentum: Any = 0.8,
    max_momentum: Any = 0.9,
) -> Both:
    """Torch's `CyclicLR`."""
    shape: dict[str, Any] = {
        "steps_up": _whole(step_size_up),
        "steps_down": _whole(step_size_down),
        "mode": mode,
        "gamma": gamma,
        "scale_fn": scale_fn,
        "scale_mode": scale_mode,
    }
    ends = {"base_value": base_momentum, "max_value": max_momentum}
    return (
        schedules.cyclic(base_lr, max_lr, **shape),
        schedules.cyclic_momentum(**ends, **shape),
    )


def _steps_of(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> Any:
    if total_steps is not None:
        return total_steps
    if epochs is None or steps_per_epoch is None:
        raise ConfigError(
            "torch.OneCycleLR", "needs total_steps, or both of epochs and steps_per_epoch"
        )
    for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        _within("OneCycleLR", name, value, "an int of at least 1", whole and value >= 1)
    return epochs * steps_per_epoch


def onecycle_lr(
    lr: Any,
    max_lr: Any,
    total_steps: Any = None,
    epochs: Any = None,
    steps_per_epoch: Any = None,
    pct_start: Any = 0.3,
    anneal_strategy: Any = "cos",
    cycle_momentum: Any = True,
    base_momentum: Any = 0.85,
    max_momentum: Any = 0.95,
    div_factor: Any = 25.0,
    final_div_factor: Any = 1e4,
    three_phase: Any = False,
) -> Both:
    """Torch's `OneCycleLR`."""
    for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
        known = isinstance(value, int | float)
        _within("OneCycleLR", name, value, "(0, inf)", not known or value > 0)
    steps = _steps_of(total_steps, epochs, steps_per_epoch)
    shape: dict[str, Any] = {
        "pct_start": pct_start,
        "anneal": _anneal("OneCycleLR", anneal_strategy),
        "three_phase": three_phase,
    }
    divisors = {"div_factor": div_factor, "final_div_factor": final_div_factor}
    ends = {"base_value": base_momentum, "max_value": max_momentum}
    return (
        schedules.onecycle(max_lr, steps, **shape, **divisors),
        schedules.onecycle_momentum(steps, **shape, **ends),
    )


def plateau_lr(
    lr: Any,
    mode: Any = "min",
    factor: Any = 0.1,
    patience: Any = 10,
    threshold: Any = 1e-4,
    threshold_mode: Any = "rel",
    cooldown: Any = 0,
    min_lr: Any = 0.0,
    eps: Any = 1e-8,
) -> Plateau:
    """Torch's `ReduceLROnPlateau`."""
    return schedules.plateau(
        lr,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_value=min_lr,
        eps=eps,
        mode=mode,
    )


def swa_lr(lr: Any, swa_lr: Any, anneal_epochs: Any = 10, anneal_strategy: Any = "cos") -> Schedule:
    """Torch's `SWALR`."""
    return schedules.swa(lr, swa_lr, anneal_epochs, anneal=_anneal("SWALR", anneal_strategy))


BUILDERS: dict[str, Callable[..., Any]] = {
    "ConstantLR": constant_lr,
    "CosineAnnealingLR": cosine_lr,
    "CosineAnnealingWarmRestarts": restarts_lr,
    "CyclicLR": cyclic_lr,
    "ExponentialLR": exponential_lr,
    "LambdaLR": lambda_lr,
    "LinearLR": linear_lr,
    "MultiStepLR": multistep_lr,
    "MultiplicativeLR": multiplicative_lr,
    "OneCycleLR": onecycle_lr,
    "PolynomialLR": polynomial_lr,
    "ReduceLROnPlateau": plateau_lr,
    "SWALR": swa_lr,
    "StepLR": step_lr,
}
