"""One after another, multiplied, and warmed up: against torch and against the closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import jopt
from jopt import schedules
from jopt.interop.torch import scheduler

from .torch_runs import build, compare, sgd, torch_rates, values

LINEAR = ("LinearLR", {"start_factor": 0.1, "total_iters": 100})
COSINE = ("CosineAnnealingLR", {"T_max": 4000, "eta_min": 1e-3})
CONSTANT = ("ConstantLR", {"factor": 0.1, "total_iters": 2})
EXPONENTIAL = ("ExponentialLR", {"gamma": 0.9})
RESTARTS = ("CosineAnnealingWarmRestarts", {"T_0": 50, "T_mult": 2})
STEP = ("StepLR", {"step_size": 1000, "gamma": 0.5})
POLYNOMIAL = ("PolynomialLR", {"total_iters": 3000, "power": 2.0})
MULTI = ("MultiStepLR", {"milestones": [3, 500], "gamma": 0.3})
SWA = ("SWALR", {"swa_lr": 0.02})

SEQUENCES = [
    ([CONSTANT, EXPONENTIAL], [20]),
    ([LINEAR, COSINE], [100]),
    ([LINEAR, COSINE, STEP], [50, 5000]),
    ([POLYNOMIAL, RESTARTS, MULTI], [10, 700]),
    ([EXPONENTIAL, EXPONENTIAL, EXPONENTIAL], [1, 2]),
    ([LINEAR, LINEAR], [7]),
]


@pytest.mark.parametrize(("children", "milestones"), SEQUENCES)
def test_a_sequence_restarts_each_schedule_from_the_base_rate(children, milestones, x64):
    kwargs = {"schedulers": children, "milestones": milestones}
    assert compare("SequentialLR", kwargs, 10_000) < 1e-10
    ours = scheduler("SequentialLR", 0.1, **kwargs)
    for (name, arguments), start in zip(children[1:], milestones, strict=True):
        assert float(ours(start)) == float(scheduler(name, 0.1, **arguments)(0))


def test_a_sequence_within_a_sequence_runs_where_torch_fails(x64):
    inner = ("SequentialLR", {"schedulers": [CONSTANT, EXPONENTIAL], "milestones": [2]})
    kwargs = {"schedulers": [LINEAR, inner], "milestones": [3]}
    with pytest.raises(NotImplementedError):
        torch_rates("SequentialLR", kwargs, 5)
    got = values(scheduler("SequentialLR", 0.1, **kwargs), 8)
    np.testing.assert_allclose(got[3:], [0.01, 0.01, 0.1, 0.09, 0.081], rtol=1e-14)


CHAINS = [
    [EXPONENTIAL],
    [RESTARTS],
    [COSINE],
    [CONSTANT, ("ExponentialLR", {"gamma": 0.999})],
    [LINEAR, STEP, POLYNOMIAL],
    [LINEAR, ("CosineAnnealingLR", {"T_max": 10_000})],
    [MULTI, LINEAR, LINEAR],
]


@pytest.mark.parametrize("children", CHAINS)
def test_a_chain_is_the_product_of_its_factors(children, x64):
    assert compare("ChainedScheduler", {"schedulers": children}, 10_000) < 1e-10


def test_a_chain_takes_a_jopt_schedule_as_a_factor(x64):
    ours = scheduler("ChainedScheduler", 0.1, schedulers=[schedules.linear(0.1, 1.0, 100), STEP])
    want = torch_rates("ChainedScheduler", {"schedulers": [LINEAR, STEP]}, 3000)
    np.testing.assert_allclose(values(ours, 3000), want, rtol=1e-12)


CLOSED = ["StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR"]
ARGUMENTS = dict([STEP, MULTI, CONSTANT, LINEAR, EXPONENTIAL, POLYNOMIAL])


@pytest.mark.parametrize("name", [*CLOSED, "CosineAnnealingLR"])
def test_agrees_with_the_closed_form_that_torch_keeps(name, x64):
    kwargs = {**ARGUMENTS, **dict([COSINE])}[name]
    driver = build(sgd(0.1), name, kwargs)
    steps = [0, 1, 2, 3, 99, 100, 101, 499, 500, 999, 1000, 2999, 3000, 3999, 4000, 4001, 9000]
    want = []
    for t in steps:
        driver.last_epoch = t
        want.append(driver._get_closed_form_lr()[0])
    got = np.asarray(scheduler(name, 0.1, **kwargs)(jnp.array(steps)))
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-300)


def test_swa_takes_over_from_another_schedule(x64):
    optimizer = sgd(0.1)
    first = build(optimizer, *EXPONENTIAL)
    second = build(optimizer, *SWA)
    optimizer.step()
    want = []
    for t in range(60):
        want.append(optimizer.param_groups[0]["lr"])
        (first if t < 25 else second).step()
    ours = schedules.swa(schedules.exponential(0.1, 0.9), 0.02, steps=10, start=25)
    np.testing.assert_allclose(values(ours, 60), want, rtol=1e-12)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    steps=st.integers(0, 30),
    init=st.floats(0, 1),
    peak=st.floats(0.1, 1),
    length=st.integers(1, 30),
)
def test_a_warm_up_is_a_line_and_then_the_schedule(steps, init, peak, length):
    after = schedules.cosine(peak, length)
    got = values(schedules.warmup(after, steps, init_value=init), 80)
    line = np.linspace(init, peak, steps, endpoint=False)
    want = np.concatenate([line, values(after, 80 - steps)])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    whole = (
        schedules.join([schedules.linear(init, peak, steps), after], [steps]) if steps else after
    )
    np.testing.assert_allclose(got, values(whole, 80), rtol=1e-6, atol=1e-7)


def test_warmup_cosine_is_torchs_linear_and_cosine_in_sequence(x64):
    children = [("LinearLR", {"start_factor": 0.1, "total_iters": 100})]
    children += [("CosineAnnealingLR", {"T_max": 900, "eta_min": 1e-3})]
    want = torch_rates("SequentialLR", {"schedulers": children, "milestones": [100]}, 1001)
    ours = schedules.warmup_cosine(0.1, 100, 1000, init_value=0.01, end_value=1e-3)
    np.testing.assert_allclose(values(ours, 1001), want, rtol=1e-10)
    assert float(ours(5000)) == 1e-3


def test_the_schedules_of_two_groups_are_two_schedules(x64):
    a, b = (torch.nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}])
    driver = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda t: 0.9**t, lambda t: 1 / (1 + t)])
    group = jopt.group("^b$", learning_rate=schedules.scaled(0.01, lambda t: 1 / (1 + t)))
    tx = jopt.sgd(schedules.scaled(0.1, lambda t: 0.9**t), groups={"b": group})
    params = {"a": jnp.float64(1.0), "b": jnp.float64(1.0)}
    state = tx.init(params)
    for _ in range(50):
        a.grad, b.grad = a.detach().clone(), b.detach().clone()
        optimizer.step()
        driver.step()
        updates, state = tx.update(params, state, params)
        params = jopt.apply_updates(params, updates)
    np.testing.assert_allclose([params["a"], params["b"]], [a.item(), b.item()], rtol=1e-13)
