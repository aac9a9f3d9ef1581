"""Every scheduler of torch, against torch itself, over 10 000 steps in float64."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jopt import schedules
from jopt.interop.torch import scheduler

from .torch_runs import compare, distance, torch_rates, values

LENGTH = 10_000
TOLERANCE = 1e-10

CASES = [
    ("StepLR", {"step_size": 1000}),
    ("StepLR", {"step_size": 30, "gamma": 0.97}),
    ("MultiStepLR", {"milestones": [500, 10, 10, 9999], "gamma": 0.3}),
    ("MultiStepLR", {"milestones": []}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.2, "total_iters": 9000}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.01, "end_factor": 0.7, "total_iters": 9000}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 9000}),
    ("ExponentialLR", {"gamma": 0.999}),
    ("ExponentialLR", {"gamma": 1.0001}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 9000, "power": 2.5}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 100, "eta_min": 1e-3}),
    ("CosineAnnealingLR", {"T_max": 3333}),
    ("CosineAnnealingLR", {"T_max": 9990}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1000, "eta_min": 1e-4}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3, "eta_min": 0.01}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 7, "step_size_down": 0}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 7, "mode": "triangular2"}),
    (
        "CyclicLR",
        {
            "base_lr": 0.01,
            "max_lr": 0.1,
            "step_size_up": 70,
            "step_size_down": 300,
            "mode": "exp_range",
            "gamma": 0.9995,
        },
    ),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 9, "scale_fn": lambda c: 1 / (c + 1)},
    ),
    (
        "CyclicLR",
        {
            "base_lr": 0.1,
            "max_lr": 0.5,
            "step_size_up": 9,
            "scale_fn": lambda t: 1 / (t + 1),
            "scale_mode": "iterations",
        },
    ),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": LENGTH}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": LENGTH, "three_phase": True}),
    (
        "OneCycleLR",
        {
            "max_lr": 0.1,
            "epochs": 10,
            "steps_per_epoch": LENGTH // 10,
            "anneal_strategy": "linear",
            "pct_start": 0.17,
            "div_factor": 10.0,
            "final_div_factor": 100.0,
        },
    ),
    ("SWALR", {"swa_lr": 0.01}),
    ("SWALR", {"swa_lr": 0.3, "anneal_epochs": 5000, "anneal_strategy": "linear"}),
    ("SWALR", {"swa_lr": 0.3, "anneal_epochs": 0}),
    ("LambdaLR", {"lr_lambda": lambda t: 0.99 ** (t / 10)}),
]


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_follows_torch(name, kwargs, x64):
    assert compare(name, kwargs, LENGTH) < TOLERANCE


@pytest.mark.parametrize("name", ["LambdaLR", "MultiplicativeLR"])
def test_a_function_that_jax_cannot_trace_becomes_a_table(name, x64):
    kwargs = {"lr_lambda": lambda t: math.cos(t / 1e4) if t % 7 else 1.001}
    assert compare(name, kwargs, LENGTH, steps=LENGTH) < TOLERANCE


def test_a_running_product_is_a_loop_without_a_table(x64):
    kwargs = {"lr_lambda": lambda t: 1 - 1 / (t + 100)}
    assert compare("MultiplicativeLR", kwargs, 1000) < TOLERANCE


def test_the_foot_of_a_cosine_is_right_where_torch_is_not(x64):
    steps = 9990
    at = [*range(steps - 5, steps), *range(steps + 1, steps + 5)]
    mpmath.mp.dps = 40
    lr = mpmath.mpf(0.1)
    exact = np.array([float(lr * (1 + mpmath.cos(mpmath.pi * t / steps)) / 2) for t in at])
    ours = values(schedules.cosine_annealing(0.1, steps), steps + 5)[at]
    theirs = torch_rates("CosineAnnealingLR", {"T_max": steps}, steps + 5)[at]
    assert distance(ours, exact, floor=0) < 1e-14
    assert distance(theirs, exact, floor=0) > 1e-10
    assert float(schedules.cosine_annealing(0.1, steps)(steps)) == 0.0


def test_one_cycle_past_its_end_stays_where_torch_bounces_and_raises(x64):
    kwargs = {"max_lr": 0.1, "total_steps": 50}
    bounced = torch_rates("OneCycleLR", kwargs, 51)
    assert bounced[50] > 100 * bounced[49]
    with pytest.raises(ValueError, match="Tried to step 51 times"):
        torch_rates("OneCycleLR", kwargs, 52)
    ours = scheduler("OneCycleLR", **kwargs)
    assert [float(ours(t)) for t in (49, 50, 51, 10**9)] == [0.1 / 25.0 / 1e4] * 4


@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_whose_first_phase_has_no_length_starts_at_the_peak(three_phase, x64):
    kwargs = {"max_lr": 0.1, "total_steps": 10, "pct_start": 0.1, "three_phase": three_phase}
    with pytest.raises(ZeroDivisionError):
        torch_rates("OneCycleLR", kwargs, 1)
    ours = values(scheduler("OneCycleLR", **kwargs), 10)
    assert ours[0] == 0.1
    assert np.all(np.diff(ours) < 0)
    assert ours[9] == 0.1 / 25.0 / 1e4


def test_linear_over_no_steps_is_at_its_end_where_torch_stays_at_its_start(x64):
    assert (
        torch_rates("LinearLR", {"start_factor": 0.5, "total_iters": 0}, 3).tolist() == [0.05] * 3
    )
    assert (
        values(scheduler("LinearLR", 0.1, start_factor=0.5, total_iters=0), 3).tolist() == [0.1] * 3
    )


rate = st.floats(1e-4, 1.0)
part = st.floats(0.05, 0.95)
period = st.integers(1, 40)
DRAWN = {
    "StepLR": st.fixed_dictionaries({"step_size": period, "gamma": part}),
    "MultiStepLR": st.fixed_dictionaries(
        {"milestones": st.lists(st.integers(1, 120), max_size=6), "gamma": part}
    ),
    "ConstantLR": st.fixed_dictionaries({"factor": part, "total_iters": period}),
    "LinearLR": st.fixed_dictionaries(
        {"start_factor": part, "end_factor": part, "total_iters": period}
    ),
    "ExponentialLR": st.fixed_dictionaries({"gamma": part}),
    "PolynomialLR": st.fixed_dictionaries({"total_iters": period, "power": st.floats(0.5, 3)}),
    "CosineAnnealingLR": st.fixed_dictionaries({"T_max": period, "eta_min": st.floats(0, 0.1)}),
    "CosineAnnealingWarmRestarts": st.fixed_dictionaries(
        {"T_0": period, "T_mult": st.integers(1, 4), "eta_min": st.floats(0, 0.1)}
    ),
    "CyclicLR": st.fixed_dictionaries(
        {
            "base_lr": rate,
            "max_lr": rate,
            "step_size_up": period,
            "step_size_down": st.none() | period,
            "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
            "gamma": st.floats(0.9, 1.0),
        }
    ),
    "OneCycleLR": st.fixed_dictionaries(
        {
            "max_lr": rate,
            "total_steps": st.integers(120, 200),
            "pct_start": st.floats(0.0, 1.0),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
            "div_factor": st.floats(1.0, 50.0),
            "final_div_factor": st.floats(1.0, 1e4),
            "three_phase": st.booleans(),
        }
    ),
    "SWALR": st.fixed_dictionaries(
        {
            "swa_lr": rate,
            "anneal_epochs": st.integers(0, 40),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
        }
    ),
}


@pytest.mark.parametrize("name", DRAWN)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data(), lr=rate)
def test_follows_torch_for_drawn_arguments(name, data, lr):
    kwargs = data.draw(DRAWN[name])
    want = torch_rates(name, kwargs, 120, lr)
    with jax.enable_x64(True):
        got = np.asarray(scheduler(name, lr, **kwargs)(jnp.arange(120)))
    assert distance(got, want) < TOLERANCE


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_float32_is_as_near_as_float32_gets(name, kwargs):
    steps = 2000 if "total_steps" not in kwargs and "epochs" not in kwargs else LENGTH
    got = values(scheduler(name, 0.1, **kwargs), steps)
    assert got.dtype == np.float32
    assert distance(got.astype(np.float64), torch_rates(name, kwargs, steps), floor=1e-3) < 2e-5
