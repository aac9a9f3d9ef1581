"""What schedules refuse, and the words they do it with."""

import re

import pytest

import jopt
from jopt import schedules as s
from jopt.interop.torch import momentum_schedule, scheduler

REFUSED = [
    (lambda: s.linear(0, 1, -1), "linear: steps is a number of steps", "at least 0"),
    (lambda: s.cosine(1.0, 0), "cosine: steps is a number of steps", "at least 1"),
    (lambda: s.cosine(1.0, 2.5), "cosine: steps is a number of steps", "found:    2.5"),
    (lambda: s.step(1.0, True), "step: step_size is a number of steps", "found:    True"),
    (lambda: s.multistep(1.0, [3, -1]), r"multistep: milestones\[1\] is a number", "found:    -1"),
    (lambda: s.cosine_restarts(1.0, 4, 1.5), "multiplier is a number of steps", "found:    1.5"),
    (lambda: s.warmup_cosine(1.0, 5, 5), "the warm-up does not end before", "total_steps > 5"),
    (lambda: s.cyclic(0, 1, mode="square"), "cyclic: there is no such mode", "found:    'square'"),
    (lambda: s.cyclic(0, 1, scale_fn=float), "cyclic: jax cannot trace scale_fn", "jax.numpy"),
    (lambda: s.cyclic(0, 1, scale_mode="x"), "there is no such scale_mode", "'cycle' or"),
    (lambda: s.onecycle(1.0, 0), "onecycle: total_steps is a number of steps", "at least 1"),
    (lambda: s.onecycle(1.0, 9, pct_start=1.2), "pct_start is out of range", r"\[0.0, 1.0\]"),
    (lambda: s.onecycle(1.0, 9, anneal="cos"), "there is no such anneal", "'cosine' or 'linear'"),
    (lambda: s.wsd(1.0, 1, 1, 1, anneal="x"), "wsd: there is no such anneal", "or 'sqrt'"),
    (lambda: s.swa(1.0, 0.1, steps=-1), "swa: steps is a number of steps", "at least 0"),
    (lambda: s.scaled(1.0, lambda t: 1 if t < 3 else 2), "cannot trace function", "Give steps="),
    (lambda: s.scaled(1.0, 0.5), "scaled: function is no function", "found:    0.5"),
    (lambda: s.scaled(1.0, lambda t: [t, t]), "gives no number", r"shape \(2,\)"),
    (lambda: s.multiplicative(1.0, float), "jax cannot trace function", "Give steps="),
    (lambda: s.table([]), "a table is a row of numbers", r"found:    \[\]"),
    (lambda: s.table([[1.0]]), "a table is a row of numbers", "found"),
    (lambda: s.join([1.0, 2.0], []), "do not fit", "1 boundaries for 2 schedules"),
    (lambda: s.join([], []), "do not fit", "at least one schedule"),
    (lambda: s.join([1.0, 2.0, 3.0], [5, 5]), "boundaries must rise", r"\(5, 5\)"),
    (
        lambda: s.join([s.plateau(1.0), 1.0], [3]),
        "a schedule with a memory has no value",
        "plateau",
    ),
    (lambda: s.warmup(s.plateau(1.0), 3), "warmup: a schedule with a memory", "plateau"),
    (lambda: s.product(), "product: there is nothing to multiply", ""),
    (lambda: s.product("x"), "product: no schedule", "found:    'x'"),
    (lambda: s.inverse_sqrt(1.0, 0), "inverse_sqrt: warmup_steps is a number", "at least 1"),
    (lambda: s.plateau(1.0, factor=1.0), "plateau: factor is out of range", r"\[0, 1\)"),
    (lambda: s.plateau(1.0, mode="up"), "plateau: there is no such mode", "'min' or 'max'"),
    (lambda: s.plateau(1.0, threshold_mode="x"), "no such threshold_mode", "'rel' or 'abs'"),
    (lambda: s.plateau(1.0, nan="x"), "there is no such nan", "'bad' or 'skip'"),
    (lambda: s.plateau(1.0, patience=1.5), "patience is a number of steps", "1.5"),
    (lambda: s.plateau(1.0, every=0), "every is a number of steps", "at least 1"),
    (lambda: s.plateau(1.0, threshold=-1.0), "threshold is out of range", "-1.0"),
    (lambda: s.plateau("a"), "plateau: init_value is not a number", "found:    'a'"),
    (lambda: s.linear("a", 0.0, 3), "linear: init_value is not a number", "found:    'a'"),
    (lambda: s.linear(0.0, None, 3), "linear: end_value is not a number", "found:    None"),
    (lambda: s.exponential(1.0, [0.5]), "exponential: gamma is not a number", r"found:    \[0.5\]"),
    (lambda: s.wsd(True, 1, 1, 1), "wsd: peak_value is not a number", "found:    True"),
    (lambda: s.onecycle(1.0, 9, three_phase="no"), "three_phase is yes or no", "True or False"),
    (lambda: s.linear(1.0, 0.0, 2**121), "past what floats hold", r"2\*\*120"),
    (lambda: s.join(1.0, [3]), "join: schedules is no row", "found:    1.0"),
    (lambda: s.join([1.0, 2.0], 3), "join: boundaries is no row", "found:    3"),
    (lambda: s.constant(1.0)("x"), "constant: this is no step", "found:    'x'"),
    (lambda: s.constant(1.0)(None), "constant: this is no step", "found:    None"),
    (lambda: s.constant(1.0)(1j), "constant: this is no step", "found:    1j"),
    (lambda: s.plateau(1.0)(3), "plateau has no value at a step alone", "value=metric"),
]

LINEAR = ("LinearLR", {})
PLATEAU = ("ReduceLROnPlateau", {})
TORCH_REFUSES = [
    ("ConstantLR", {"factor": 1.1}, "factor is out of range", r"\[0, 1\]"),
    ("ConstantLR", {"factor": -0.1}, "factor is out of range", "-0.1"),
    ("LinearLR", {"start_factor": 0}, "start_factor is out of range", r"\(0, 1\]"),
    ("LinearLR", {"start_factor": 1.1}, "start_factor is out of range", "1.1"),
    ("LinearLR", {"end_factor": 1.1}, "end_factor is out of range", "1.1"),
    ("MultiplicativeLR", {"lr_lambda": 0.5}, "lr_lambda is a function", "0.5"),
    ("CosineAnnealingWarmRestarts", {"T_0": 0}, "steps is a number of steps", "at least 1"),
    ("CosineAnnealingWarmRestarts", {"T_0": 1.5}, "steps is a number of steps", "1.5"),
    ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 0}, "multiplier is", "at least 1"),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "mode": "x"}, "no such mode", "triangular"),
    ("CyclicLR", {"base_lr": [0.1, 0.2], "max_lr": 1.0}, "a value for each", "jopt.group"),
    ("OneCycleLR", {"max_lr": 1.0}, "needs total_steps, or both", "steps_per_epoch"),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 0}, "total_steps is a number", "at least 1"),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 2.5}, "total_steps is a number", "2.5"),
    ("OneCycleLR", {"max_lr": 1.0, "epochs": 1.5, "steps_per_epoch": 2}, "epochs is", "1.5"),
    ("OneCycleLR", {"max_lr": 1.0, "epochs": 2, "steps_per_epoch": 0}, "steps_per_epoch", "0"),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "pct_start": 1.1}, "pct_start", "1.1"),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "anneal_strategy": "x"}, "anneal", "'cos'"),
    ("ReduceLROnPlateau", {"factor": 1.0}, "factor is out of range", "1.0"),
    ("ReduceLROnPlateau", {"mode": "x"}, "no such mode", "'x'"),
    ("ReduceLROnPlateau", {"threshold_mode": "x"}, "no such threshold_mode", "'x'"),
    ("ReduceLROnPlateau", {"min_lr": [0.1, 0.2]}, "min_lr has a value for each", "one value"),
    ("SequentialLR", {"schedulers": [LINEAR], "milestones": [3]}, "do not fit", "found:    1"),
    ("SequentialLR", {"schedulers": [], "milestones": []}, "do not fit", "at least one"),
    ("SequentialLR", {"schedulers": [LINEAR, PLATEAU], "milestones": [3]}, "a plateau", "metric"),
    ("SequentialLR", {"schedulers": ["LinearLR"], "milestones": []}, "no schedule", "LinearLR"),
    ("ChainedScheduler", {"schedulers": []}, "there is nothing to multiply", ""),
    ("ChainedScheduler", {"schedulers": [PLATEAU]}, "a plateau needs a metric", ""),
    ("SWALR", {"swa_lr": 0.1, "anneal_strategy": "x"}, "no such anneal_strategy", "'x'"),
    ("SWALR", {"swa_lr": 0.1, "anneal_epochs": -1}, "steps is a number of steps", "-1"),
]

OURS = [
    ("AdamW", {}, "no scheduler of torch", "StepLR"),
    ("StepLR", {}, "torch.StepLR: needs step_size=", "step_size, gamma"),
    ("StepLR", {"step_size": 3, "verbose": True}, "has no argument 'verbose'", "step_size, gamma"),
    ("StepLR", {"step_size": 3, "last_epoch": 5}, "no epoch of its own", "Restore the state"),
    ("PolynomialLR", {"total_iters": 0}, "steps is a number of steps", "at least 1"),
    ("SequentialLR", {"schedulers": [("A",)], "milestones": []}, "this is no scheduler", "pair"),
    (
        "ChainedScheduler",
        {"schedulers": [LINEAR, ("CosineAnnealingWarmRestarts", {"T_0": 5})]},
        "CosineAnnealingWarmRestarts does not multiply the rate",
        "jopt.schedules.product",
    ),
    (
        "ChainedScheduler",
        {"schedulers": [LINEAR, ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.1})]},
        "CosineAnnealingLR does not multiply the rate",
        "eta_min=0",
    ),
]


@pytest.mark.parametrize(("make", "says", "found"), REFUSED)
def test_a_wrong_argument_is_named(make, says, found):
    with pytest.raises(jopt.ConfigError, match=says) as error:
        make()
    assert re.search(found, str(error.value))


@pytest.mark.parametrize(("name", "kwargs", "says", "found"), [*TORCH_REFUSES, *OURS])
def test_what_torch_refuses_is_refused(name, kwargs, says, found):
    with pytest.raises(jopt.ConfigError, match=says) as error:
        scheduler(name, 0.1, **kwargs)
    assert re.search(found, str(error.value))


def test_a_scheduler_needs_its_rate_and_its_momentum():
    with pytest.raises(jopt.ConfigError, match="StepLR: needs the base learning rate"):
        scheduler("StepLR", step_size=3)
    with pytest.raises(jopt.ConfigError, match="cycle_momentum=False leaves the momentum alone"):
        momentum_schedule("OneCycleLR", max_lr=1.0, total_steps=9, cycle_momentum=False)
    with pytest.raises(jopt.ConfigError, match=r"StepLR'\n  expected: CyclicLR, OneCycleLR"):
        momentum_schedule("StepLR", step_size=3)


@pytest.mark.parametrize(("name", "kwargs", "says", "found"), TORCH_REFUSES)
def test_torch_itself_refuses_it(name, kwargs, says, found):
    from .torch_runs import build, sgd

    with pytest.raises((ValueError, TypeError, IndexError)):
        build(sgd(0.1), name, kwargs)


def test_takes_torchs_tensors_and_whole_floats():
    import torch

    assert scheduler("StepLR", torch.tensor(0.5), step_size=3) == s.step(0.5, 3)
    assert scheduler("CyclicLR", base_lr=0.0, max_lr=1.0, step_size_up=4.0) == scheduler(
        "CyclicLR", base_lr=0.0, max_lr=1.0, step_size_up=4
    )
    assert scheduler("StepLR", 0.5, step_size=3, last_epoch=-1) == s.step(0.5, 3, 0.1)
