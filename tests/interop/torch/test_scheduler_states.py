"""A saved scheduler of torch goes on in jopt: the same rates from the step where it stood."""

import io
import json
import pickle
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import jopt
from jopt import schedules
from jopt.interop.torch import import_momentum_schedule, import_scheduler, paced, resumed
from tests.schedules.torch_runs import build, distance, sgd

TOLERANCE = 1e-12
STEPS = 45


def saved(what):
    """What a file holds: nothing that torch would have to unpickle as code."""
    file = io.BytesIO()
    torch.save(what, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def torch_run(name, kwargs, steps, more, lr=0.1):
    """The scheduler's and the optimizer's file after `steps`, and the rates of `more` steps."""
    optimizer = sgd(lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the optimizer itself never steps
        driver = build(optimizer, name, kwargs)
        for _ in range(steps):
            driver.step()
        files = saved(driver.state_dict()), saved(optimizer.state_dict())
        rates, momenta = [], []
        for _ in range(more):
            rates.append(optimizer.param_groups[0]["lr"])
            momenta.append(optimizer.param_groups[0]["momentum"])
            driver.step()
    return files, np.array(rates), np.array(momenta)


def values(schedule, steps):
    return np.asarray(schedule(jnp.arange(steps)))


def half(t):
    return 1 / (1 + t / 8)


def near_one(t):
    return 1 - 1 / (t + 9)


LINEAR = ("LinearLR", {"start_factor": 0.1, "total_iters": 9})
COSINE = ("CosineAnnealingLR", {"T_max": 30, "eta_min": 1e-3})
RESTARTS = ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2, "eta_min": 1e-4})
LAMBDA = ("LambdaLR", {"lr_lambda": half})
TIMES = ("MultiplicativeLR", {"lr_lambda": near_one})
CASES = [
    ("StepLR", {"step_size": 10, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [30, 8, 8], "gamma": 0.3}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 20}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 0}),
    LINEAR,
    ("LinearLR", {"start_factor": 0.25, "total_iters": 0}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {"total_iters": 100, "power": 2.5}),
    COSINE,
    RESTARTS,
    ("CosineAnnealingWarmRestarts", {"T_0": 7}),
    LAMBDA,
    TIMES,
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 7, "step_size_down": 3}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 6, "mode": "triangular2"}),
    (
        "CyclicLR",
        {
            "base_lr": 0.01,
            "max_lr": 0.2,
            "step_size_up": 6,
            "mode": "exp_range",
            "gamma": 0.97,
            "cycle_momentum": False,
        },
    ),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2, "step_size_up": 6, "scale_fn": half}),
    (
        "CyclicLR",
        {
            "base_lr": 0.1,
            "max_lr": 0.2,
            "step_size_up": 6,
            "scale_fn": half,
            "scale_mode": "iterations",
        },
    ),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 80}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 80, "three_phase": True, "pct_start": 0.4}),
    (
        "OneCycleLR",
        {
            "max_lr": 0.3,
            "total_steps": 90,
            "anneal_strategy": "linear",
            "pct_start": 0.17,
            "cycle_momentum": False,
        },
    ),
    ("SWALR", {"swa_lr": 0.02}),
    ("SWALR", {"swa_lr": 0.02, "anneal_epochs": 40, "anneal_strategy": "linear"}),
    ("SWALR", {"swa_lr": 0.02, "anneal_epochs": 0}),
    ("SequentialLR", {"schedulers": [LINEAR, COSINE], "milestones": [9]}),
    ("SequentialLR", {"schedulers": [LINEAR, RESTARTS, LAMBDA], "milestones": [9, 28]}),
    ("SequentialLR", {"schedulers": [LINEAR, TIMES], "milestones": [4]}),
    ("SequentialLR", {"schedulers": [COSINE, TIMES, LINEAR], "milestones": [10, 33]}),
    (
        "SequentialLR",  # torch runs it a step ahead
        {
            "schedulers": [
                ("SequentialLR", {"schedulers": [LINEAR, COSINE], "milestones": [9]}),
                ("ExponentialLR", {"gamma": 0.9}),
            ],
            "milestones": [40],
        },
    ),
    ("ChainedScheduler", {"schedulers": [LINEAR, ("ExponentialLR", {"gamma": 0.97})]}),
    ("ChainedScheduler", {"schedulers": [LINEAR, TIMES, ("StepLR", {"step_size": 9})]}),
    ("ChainedScheduler", {"schedulers": [RESTARTS]}),
    (
        "ChainedScheduler",
        {"schedulers": [("ExponentialLR", {"gamma": 0.9}), ("ConstantLR", {"total_iters": 0})]},
    ),
]
FUNCTIONS = ("lr_lambda", "scale_fn")


def kinds(kwargs):
    """What a state dict does not tell: classes and functions."""
    out = {k: v for k, v in kwargs.items() if k in FUNCTIONS}
    if "schedulers" in kwargs:
        out["schedulers"] = [(name, kinds(inner)) for name, inner in kwargs["schedulers"]]
    return out


@pytest.mark.parametrize("steps", [3, 27])
@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_goes_on_where_torch_stood(name, kwargs, steps, x64):
    (state, optimizer), want, _ = torch_run(name, kwargs, steps, STEPS - steps)
    rate = import_scheduler(name, state, param_groups=optimizer, **kinds(kwargs))
    # Within 10⁻¹² of the rate, and near the foot of a cosine, where torch's digits have
    # cancelled, of a part in 10⁵ of the largest.
    assert distance(values(rate, STEPS)[steps:], want) < TOLERANCE
    again = pickle.loads(pickle.dumps(rate))
    assert again == rate
    assert eval(repr(rate), {"jopt": jopt}) == rate if not kinds(kwargs) else "jopt." in repr(rate)


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_the_momentum_goes_on_too(name, x64):
    kwargs = {
        "OneCycleLR": {"max_lr": 0.3, "total_steps": 80, "base_momentum": 0.7},
        "CyclicLR": {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 7, "max_momentum": 0.97},
    }[name]
    (state, optimizer), _, want = torch_run(name, kwargs, 11, 30)
    got = import_momentum_schedule(name, state, param_groups=optimizer)
    assert distance(values(got, 41)[11:], want) < TOLERANCE
    (state, optimizer), _, _ = torch_run(name, {**kwargs, "cycle_momentum": False}, 11, 1)
    with pytest.raises(jopt.ConfigError, match="cycle_momentum=False leaves the momentum alone"):
        import_momentum_schedule(name, state, param_groups=optimizer)


def test_each_group_has_its_own_schedule(x64):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.02)]
    optimizer = torch.optim.SGD(groups)
    driver = lr_scheduler.LambdaLR(optimizer, [half, near_one])
    state = saved(driver.state_dict())
    second = import_scheduler("LambdaLR", state, group=1, lr_lambda=[half, near_one])
    assert second == schedules.scaled(0.02, near_one)
    with pytest.raises(jopt.CheckpointError, match="no entry for parameter group 2"):
        import_scheduler("LambdaLR", state, group=2, lr_lambda=half)


def test_a_scheduler_that_steps_once_per_epoch(x64):
    # 3 epochs of 4 batches and one batch more; the optimizer's count is 13.
    (state, _), want, _ = torch_run("ExponentialLR", {"gamma": 0.5}, 3, 4)
    per_epoch = import_scheduler("ExponentialLR", state, every=4)
    assert repr(per_epoch) == (
        "jopt.interop.torch.paced(schedule="
        "jopt.schedules.exponential(init_value=0.1, gamma=0.5), every=4, shift=0)"
    )
    np.testing.assert_allclose(values(per_epoch, 28)[12:], np.repeat(want, 4), rtol=1e-15)
    fresh = import_scheduler("ExponentialLR", state, every=4, count=-1)
    np.testing.assert_allclose(values(fresh, 15), np.repeat(want, 4)[1:], rtol=1e-15)
    every_step = import_scheduler("ExponentialLR", state, count=0)
    np.testing.assert_allclose(values(every_step, 4), want, rtol=1e-15)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_restarts_that_are_stepped_within_an_epoch(multiplier, x64):
    batches, optimizer = 4, sgd(0.1)
    driver = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3, multiplier)
    want = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for i in range(12 * batches):
            driver.step(i / batches)
            want.append(optimizer.param_groups[0]["lr"])
            if i == 25:
                state = saved(driver.state_dict())
    rate = import_scheduler("CosineAnnealingWarmRestarts", state, every=batches)
    assert rate.config["steps"] == 12
    assert distance(values(rate, 48), np.array(want)) < TOLERANCE
    fresh = import_scheduler("CosineAnnealingWarmRestarts", state, every=batches, count=0)
    assert distance(values(fresh, 20), np.array(want)[25:45]) < TOLERANCE
    with pytest.raises(jopt.ConfigError, match=r"stepped in fractions of an epoch\n.*T_cur"):
        import_scheduler("CosineAnnealingWarmRestarts", state)


def test_swa_goes_on_from_what_another_scheduler_had_left(x64):
    optimizer = sgd(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        first = lr_scheduler.ExponentialLR(optimizer, 0.9)
        for _ in range(8):
            first.step()
        driver = torch.optim.swa_utils.SWALR(optimizer, 0.5, anneal_epochs=6)
        for _ in range(2):
            driver.step()
        state, groups = saved(driver.state_dict()), saved(optimizer.state_dict())
        want = []
        for _ in range(8):
            want.append(optimizer.param_groups[0]["lr"])
            driver.step()
    rate = import_scheduler("SWALR", state, param_groups=groups, count=10)
    np.testing.assert_allclose(values(rate, 18)[10:], want, rtol=1e-12)


class Cut:
    """A function with an attribute, which torch saves."""

    def __init__(self, at):
        self.at = at

    def __call__(self, t):
        return self.at / (self.at + t)


def test_a_callable_object_gets_its_attributes_back(x64):
    optimizer = sgd(0.1)
    state = saved(lr_scheduler.LambdaLR(optimizer, Cut(5)).state_dict())
    mine = Cut(0)
    rate = import_scheduler("LambdaLR", state, lr_lambda=mine)
    np.testing.assert_allclose(values(rate, 7), [0.5 / (5 + t) for t in range(7)], rtol=1e-15)
    assert mine.at == 0


def test_a_function_that_jax_cannot_trace_needs_steps(x64):
    kwargs = {"lr_lambda": lambda t: 2.0 if t % 3 else 1.0}
    (state, _), want, _ = torch_run("LambdaLR", kwargs, 4, 10)
    with pytest.raises(jopt.ConfigError, match="Give steps="):
        import_scheduler("LambdaLR", state, **kwargs)
    rate = import_scheduler("LambdaLR", state, steps=20, **kwargs)
    np.testing.assert_allclose(values(rate, 14)[4:], want, rtol=1e-15)


def test_a_dict_from_json_has_its_milestones_too():
    (state, _), _, _ = torch_run("MultiStepLR", {"milestones": [30, 8, 8]}, 9, 1)
    text = json.loads(json.dumps(state))
    assert import_scheduler("MultiStepLR", text) == schedules.multistep(0.1, [8, 8, 30], 0.1)


def test_two_schedulers_on_one_optimizer_are_a_chain(x64):
    optimizer = sgd(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        drivers = [lr_scheduler.ExponentialLR(optimizer, 0.9), lr_scheduler.StepLR(optimizer, 3)]
        for _ in range(5):
            for driver in drivers:
                driver.step()
    states = [saved(driver.state_dict()) for driver in drivers]
    with pytest.raises(jopt.CheckpointError, match="another scheduler drives it too"):
        import_scheduler("StepLR", states[1])
    names = ["ExponentialLR", "StepLR"]
    rate = import_scheduler("ChainedScheduler", {"_schedulers": states}, schedulers=names)
    np.testing.assert_allclose(float(rate(5)), 0.1 * 0.9**5 * 0.1, rtol=1e-14)


def test_an_edited_rate_is_told_and_can_be_followed(x64):
    optimizer = sgd(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        driver = lr_scheduler.ExponentialLR(optimizer, 0.5)
        driver.step()
        optimizer.param_groups[0]["lr"] = 0.8
        driver.step()
        state = saved(driver.state_dict())
        driver.step()
    text = """import_scheduler('ExponentialLR'): torch's last rate is not the one that its \
scheduler gives: it was edited, or another scheduler drives it too
  expected: 0.025, by the scheduler at its step 2
  found:    0.4
  If the rate was edited: base_lr=1.6 goes on from it.
  Two schedulers on one optimizer are a chain: """
    with pytest.raises(jopt.CheckpointError, match=f"^{re.escape(text)}"):
        import_scheduler("ExponentialLR", state)
    rate = import_scheduler("ExponentialLR", state, base_lr=1.6)
    np.testing.assert_allclose(float(rate(3)), optimizer.param_groups[0]["lr"], rtol=1e-15)


METRICS = st.floats(1e-3, 3.0) | st.sampled_from([1.0, 0.9, 1.0 - 1e-4, float("nan")])
RULES = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.sampled_from([0.1, 0.5]),
        "patience": st.integers(0, 3),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 3),
        "min_lr": st.sampled_from([0.0, 0.01]),
    }
)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data(), rules=RULES, steps=st.integers(0, 25))
def test_a_plateau_goes_on_to_the_bit(data, rules, steps):
    metrics = data.draw(st.lists(METRICS, min_size=40, max_size=40))
    optimizer = sgd(0.1)
    driver = lr_scheduler.ReduceLROnPlateau(optimizer, **rules)
    for metric in metrics[:steps]:
        driver.step(metric)
    state = saved(driver.state_dict())
    want = []
    for metric in metrics[steps:]:
        want.append(optimizer.param_groups[0]["lr"])
        driver.step(metric)
    with jax.enable_x64(True):
        plan = import_scheduler("ReduceLROnPlateau", state)
        assert eval(repr(plan), {"jopt": jopt, "inf": np.inf}) == plan

        def one(memory, metric):
            used, memory = plan.update(memory, value=metric)
            return memory, used

        memory, used = jax.lax.scan(one, plan.init(), jnp.asarray(metrics[steps:]))
        assert used.tolist() == want
        assert float(memory["best"]) == driver.best
        assert int(memory["cooldown"]) == driver.cooldown_counter


def test_the_memory_of_a_plateau_is_in_a_fresh_state():
    optimizer = sgd(0.1)
    driver = lr_scheduler.ReduceLROnPlateau(optimizer, patience=3, factor=0.5)
    for metric in (2.0, 1.0, 1.0, 1.0):
        driver.step(metric)
    state = saved(driver.state_dict())
    plan = import_scheduler("ReduceLROnPlateau", state, nan="skip", every=1)
    tx, params = jopt.sgd(plan), {"w": jnp.ones(1)}
    memory = tx.init(params)["sgd"]["schedules"]["default"]["learning_rate"]
    got = {k: float(memory[k]) for k in ("best", "bad", "cooldown")}
    assert got == {"best": 1.0, "bad": 2.0, "cooldown": 0.0}
    own = {"learning_rate": np.float32(0.1)}
    assert jopt.hyperparams(tx.init(params))["sgd"]["default"]["learning_rate"] == own.popitem()[1]
    assert pickle.loads(pickle.dumps(plan)) == plan
    groups = saved(optimizer.state_dict())
    groups["param_groups"][0]["lr"] = 0.7  # edited after the scheduler's last step
    plan = import_scheduler("ReduceLROnPlateau", state, param_groups=groups)
    assert plan.config["value"] == 0.7


WRONG = [
    (
        lambda: import_scheduler("ExponentialLR", {"step_size": 3, "gamma": 0.1}),
        r"it has 'step_size'\n  expected: gamma\n.*gamma, step_size\n.*the keys of StepLR\.",
    ),
    (lambda: import_scheduler("StepLR", {"gamma": 0.1}), "StepLR: it has no 'step_size'"),
    (lambda: import_scheduler("StepLR", [1]), r"a state dict is a dict\n  found:    list"),
    (lambda: import_scheduler("WarmupLR", {}), "no scheduler of torch is called 'WarmupLR'"),
    (
        lambda: import_scheduler("LambdaLR", {"lr_lambdas": [None], "base_lrs": [1.0]}),
        "torch does not save functions\n  Give lr_lambda= as torch was given",
    ),
    (
        lambda: import_scheduler("ExponentialLR", {"gamma": 0.1}, lr_lambda=half),
        "'lr_lambda' is in the state dict, or no argument of ExponentialLR",
    ),
    (
        lambda: import_scheduler("ChainedScheduler", {"_schedulers": [{}]}),
        r"torch does not save of which classes its schedulers are\n  expected: schedulers=\[...\] ",
    ),
    (
        lambda: import_scheduler("ChainedScheduler", {"_schedulers": [{}]}, schedulers=[3]),
        r'this is no scheduler\n  expected: a class name, or a pair such as \("LambdaLR"',
    ),
    (lambda: paced(0.1, shift=0.5), "shift is a whole number"),
    (lambda: resumed(0.1, value=0.1, best=0.1), "only a plateau has a memory"),
]


@pytest.mark.parametrize(("call", "text"), WRONG)
def test_wrong_calls_are_told(call, text):
    with pytest.raises(jopt.JoptError, match=text):
        call()


def test_more_wrong_calls_are_told():
    (state, _), _, _ = torch_run("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, 2, 1)
    with pytest.raises(jopt.ConfigError, match=r"keeps 'initial_lr' in the .*\n.*no param_groups="):
        import_scheduler("OneCycleLR", state)
    (state, _), _, _ = torch_run("ExponentialLR", {"gamma": 0.5}, 2, 1)
    with pytest.raises(jopt.ConfigError, match=r"every counts steps\n.*\n  found:    0"):
        import_scheduler("ExponentialLR", state, every=0)
    with pytest.raises(jopt.ConfigError, match=r"count counts steps\n.*\n  found:    0\.5"):
        import_scheduler("ExponentialLR", state, count=0.5)
    ahead = {**state, "last_epoch": 1}
    with pytest.raises(jopt.CheckpointError, match="stand at different steps"):
        import_scheduler(
            "ChainedScheduler", {"_schedulers": [state, ahead]}, schedulers=["ExponentialLR"] * 2
        )
