"""A jopt schedule goes on in torch: the class, its state, and what it keeps in the groups."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt import schedules as s
from jopt.interop.torch import (
    export_scheduler,
    import_scheduler,
    momentum_schedule,
    paced,
    scheduler,
)
from tests.schedules.torch_runs import build, distance

from .test_scheduler_states import CASES, half, kinds, near_one, saved, values

STEPS = 45


def torch_goes_on(out, more, beta1=False):
    """The rates and momenta of torch, built as the docstring says, from the files it was given."""
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(()))], "lr": 7.0} for _ in out.param_groups
    ]
    optimizer = torch.optim.Adam(groups) if beta1 else torch.optim.SGD(groups, momentum=0.5)
    rates, momenta = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        driver = build(optimizer, out.name, out.arguments)
        for group, own in zip(optimizer.param_groups, out.param_groups, strict=True):
            group.update(own)
        driver.load_state_dict(saved(out.state_dict))
        for i in range(more):
            rates.append([g["lr"] for g in optimizer.param_groups])
            momenta.append(optimizer.param_groups[0].get("momentum"))
            if i < more - 1:
                driver.step()
    return np.array(rates), np.array(momenta)


def runnable(name, kwargs):
    """Whether jopt's schedule is torch's, and torch can build it."""
    children = [k for _, k in kwargs.get("schedulers", [])]
    return (
        not (name in ("ConstantLR", "LinearLR") and kwargs.get("total_iters") == 0)
        and not any("schedulers" in k or k.get("total_iters") == 0 for k in children)
        and not (name == "SequentialLR" and any("near_one" in repr(k) for k in children))
    )


EXPORTED = [(n, k) for n, k in CASES if runnable(n, k) and n != "ChainedScheduler"]
EXPORTED += [(n, k) for n, k in CASES if n == "ChainedScheduler" and len(k["schedulers"]) > 1]
EXPORTED = [(n, k) for n, k in EXPORTED if runnable(n, k)]


@pytest.mark.parametrize(("name", "kwargs"), EXPORTED)
def test_torch_goes_on_where_jopt_stood(name, kwargs, x64):
    ours = scheduler(name, 0.1, **kwargs)
    want = values(ours, STEPS)
    for count in (0, 13):
        out = export_scheduler(ours, jnp.int32(count))
        assert out.name == name
        rates, _ = torch_goes_on(out, STEPS - count)
        assert distance(rates[:, 0], want[count:]) < 1e-12
    given = kinds(out.arguments)
    back = import_scheduler(name, out.state_dict, param_groups=out.param_groups, **given)
    np.testing.assert_allclose(values(back, STEPS), want, rtol=1e-13, atol=1e-17)


LONE = {
    "constant": (s.constant(0.3), "ConstantLR"),
    "constant_factor": (s.constant_factor(0.3, 0.5, 0), "ConstantLR"),
    "linear": (s.linear(0.1, 0.3, 0), "ConstantLR"),
    "linear down": (s.linear(0.4, 0.0, 20), "LinearLR"),
    "numbers": (s.product(0.5, 0.2), "ConstantLR"),
    "product": (
        s.product(0.5, s.exponential(0.4, 0.9), s.linear(0.5, 2.0, 20)),
        "ChainedScheduler",
    ),
    "table": (s.scaled(0.1, lambda t: 1.0 + t % 3, steps=20), "LambdaLR"),
    "running": (s.multiplicative(0.1, lambda t: 0.9 + t % 2 / 9, steps=20), "MultiplicativeLR"),
    "join": (
        s.join([s.linear(0.02, 0.1, 9), s.scaled(0.1, half), s.linear(0.1, 0.05, 3)], [9, 30]),
        "SequentialLR",
    ),
    "lines": (s.join([s.linear(0.02, 0.1, 9), s.linear(0.2, 0.05, 3)], [9]), "SequentialLR"),
}


@pytest.mark.parametrize("name", LONE)
def test_jopts_own_schedules_that_are_torchs(name, x64):
    ours, torch_name = LONE[name]
    out = export_scheduler(ours, 11)
    assert out.name == torch_name
    rates, _ = torch_goes_on(out, STEPS - 11)
    assert distance(rates[:, 0], values(ours, STEPS)[11:]) < 1e-12


@pytest.mark.parametrize("beta1", [False, True])
@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_the_momentum_goes_with_the_rate(name, beta1, x64):
    kwargs = {
        "OneCycleLR": {"max_lr": 0.3, "total_steps": 80, "base_momentum": 0.7},
        "CyclicLR": {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 7, "max_momentum": 0.97},
    }[name]
    rate, momentum = scheduler(name, 0.1, **kwargs), momentum_schedule(name, **kwargs)
    out = export_scheduler(rate, 11, momentum=momentum, beta1=beta1)
    assert out.state_dict["use_beta1"] is beta1
    rates, momenta = torch_goes_on(out, 20, beta1)
    assert distance(rates[:, 0], values(rate, 31)[11:]) < 1e-12
    if not beta1:
        assert distance(momenta, values(momentum, 31)[11:]) < 1e-12
    with pytest.raises(jopt.ConfigError, match=f"the momentum does not keep step with {name}"):
        export_scheduler(rate, 3, momentum=s.onecycle_momentum(7))


def test_groups_with_rates_of_their_own(x64):
    rates = [s.onecycle(0.1, 40), s.onecycle(0.03, 40)]
    out = export_scheduler(rates, 6)
    assert out.arguments["max_lr"] == [0.1, 0.03]
    got, _ = torch_goes_on(out, 30)
    for i, rate in enumerate(rates):
        assert distance(got[:, i], values(rate, 36)[6:]) < 1e-12
    warm = [s.join([s.linear(x / 10, x, 9), s.step(x, 7)], [9]) for x in (0.1, 0.2)]
    got, _ = torch_goes_on(export_scheduler(warm, 6), 30)
    for i, rate in enumerate(warm):
        assert distance(got[:, i], values(rate, 36)[6:]) < 1e-12
    with pytest.raises(jopt.ConfigError, match="serves all groups: only rates may differ"):
        export_scheduler([s.step(0.1, 7), s.step(0.1, 8)], 0)


def test_a_slower_pace_is_torchs_own_count(x64):
    out = export_scheduler(paced(s.exponential(0.1, 0.5), every=4, shift=2), 11)
    assert (out.state_dict["last_epoch"], out.state_dict["_step_count"]) == (3, 4)
    np.testing.assert_allclose(torch_goes_on(out, 2)[0][:, 0], [0.1 / 8, 0.1 / 16], rtol=1e-15)


def test_anything_is_a_lambda(x64):
    ours = s.wsd(0.1, 5, 10, 20)
    out = export_scheduler(ours, 3, as_lambda=True)
    assert out.name == "LambdaLR"
    assert distance(torch_goes_on(out, 30)[0][:, 0], values(ours, 33)[3:]) < 1e-15
    out = export_scheduler(lambda t: 0.1 / (t + 1), 3, as_lambda=True, base_lr=0.1)
    assert out.param_groups == [{"lr": 0.025, "initial_lr": 0.1}]


@pytest.mark.parametrize("stop", [0, 9, 11, 14, 23])
def test_a_plateau_goes_on_in_torch_to_the_bit(stop, x64):
    noise = np.random.default_rng(0).uniform(0.5, 1.0, 40)
    metrics = np.where(np.arange(40) < 8, 3.0 - np.arange(40) / 5, noise + 1)
    plan = s.plateau(0.1, factor=0.5, patience=2, cooldown=2)
    used, memory = [], plan.init()
    for metric in metrics[:stop]:
        _, memory = plan.update(memory, value=metric)
    out = export_scheduler(plan, stop, memory=memory)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=9.0)
    driver = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **out.arguments)
    optimizer.param_groups[0].update(out.param_groups[0])
    driver.load_state_dict(saved(out.state_dict))
    want = []
    for metric in metrics[stop:]:
        want.append(optimizer.param_groups[0]["lr"])
        driver.step(metric)
        now, memory = plan.update(memory, value=metric)
        used.append(float(now))
    assert used == want
    assert driver.best == float(memory["best"])
    back = import_scheduler("ReduceLROnPlateau", driver.state_dict())
    again = export_scheduler(back, 40, memory=back.init())
    assert again.state_dict == saved(driver.state_dict())


def test_a_plateau_of_float32_gives_torch_the_number_that_was_meant():
    plan = s.plateau(0.1)
    out = export_scheduler(plan, 0, memory=jax.device_get(plan.init()))
    assert out.param_groups == [{"lr": 0.1}]


REFUSED = [
    (lambda: export_scheduler(s.cosine(0.1, 5), 1), "torch follows jopt.schedules.cosine"),
    (lambda: export_scheduler(lambda t: 0.1, 1), "torch follows a plain function"),
    (lambda: export_scheduler(s.linear(0.0, 0.1, 5), 1), "LinearLR starts above 0"),
    (
        lambda: export_scheduler(s.polynomial(0.1, 5, 1.0, end_value=0.01), 1),
        "PolynomialLR ends at 0",
    ),
    (
        lambda: export_scheduler(s.constant_factor(0.1, 0.0, 3), 1),
        "ConstantLR wants a factor above",
    ),
    (lambda: export_scheduler(s.swa(0.1, 0.5, start=3), 1), "SWALR starts from a number"),
    (
        lambda: export_scheduler(s.join([s.step(0.1, 3), s.onecycle(0.1, 9)], [4]), 1),
        "torch's base rate|the base rate of OneCycleLR is",
    ),
    (
        lambda: export_scheduler(s.join([s.step(0.1, 3), s.multiplicative(0.1, near_one)], [4]), 1),
        "SequentialLR does not restart jopt.schedules.multiplicative",
    ),
    (
        lambda: export_scheduler(s.product(s.step(0.1, 3), s.scaled(1.0, half)), 1),
        "ChainedScheduler does not multiply by jopt.schedules.scaled",
    ),
    (lambda: export_scheduler(s.step(0.1, 3), 1, base_lr=0.2), "base rate of StepLR is 0.1 here"),
    (lambda: export_scheduler(s.step(0.1, 3)), "a schedule stands at a step"),
    (lambda: export_scheduler([], 1), "there is no schedule"),
    (lambda: export_scheduler(s.plateau(0.1), 1), "a plateau stands where its memory says"),
    (
        lambda: export_scheduler([s.plateau(0.1), s.plateau(0.1)], 1, memory=s.plateau(0.1).init()),
        "a plateau has one memory",
    ),
    (
        lambda: export_scheduler(
            s.plateau(0.1, every=3),
            memory=s.plateau(0.1, every=3).update(s.plateau(0.1).init(), value=1.0)[1],
        ),
        r"in the middle of a window of metrics, which torch does not have\n.*1 of every=3",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSED)
def test_what_torch_cannot_follow_is_told(call, text):
    with pytest.raises(jopt.ConfigError, match=re.compile(text)):
        call()
