"""State dicts of schedulers with something wrong in them: jopt's error, and it says what."""

import pytest
import torch

import jopt
from jopt.interop.torch import import_momentum_schedule, import_scheduler

STEP = {"step_size": 3, "gamma": 0.1, "base_lrs": [0.1], "last_epoch": 2, "_last_lr": [0.1]}


def cycle():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    driver = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=20)
    return driver.state_dict(), optimizer.state_dict()


@pytest.mark.parametrize(
    ("bent", "text"),
    [
        ({"gamma": "x"}, r"gamma is no number\n  found:    'x'"),
        ({"last_epoch": None}, r"last_epoch is no number\n  found:    None"),
        ({"base_lrs": [None]}, r"base_lrs is no number\n  found:    None"),
        ({"base_lrs": None}, r"base_lrs has no entry for parameter group 0"),
        ({"_last_lr": ["x"]}, r"_last_lr is no number\n  found:    'x'"),
    ],
)
def test_numbers_that_are_none(bent, text):
    with pytest.raises(jopt.CheckpointError, match=text):
        import_scheduler("StepLR", {**STEP, **bent})


def test_a_state_without_its_step():
    state = {k: v for k, v in STEP.items() if k != "last_epoch"}
    with pytest.raises(jopt.CheckpointError, match="the state dict has no 'last_epoch'"):
        import_scheduler("StepLR", state)


@pytest.mark.parametrize(("within", "found"), [(None, "None"), ([], r"\[\]"), (3, "3")])
def test_nothing_within(within, found):
    with pytest.raises(jopt.CheckpointError, match=f"it holds no schedulers\n  found:    {found}"):
        import_scheduler("ChainedScheduler", {"_schedulers": within}, schedulers=[])


@pytest.mark.parametrize("marks", [None, [], [1, 2], ["x"], 3])
def test_milestones_that_do_not_fit(marks):
    state = {"_schedulers": [STEP, STEP], "_milestones": marks, "last_epoch": 2}
    with pytest.raises(jopt.CheckpointError, match=r"its milestones\n  expected: 1 whole numbers"):
        import_scheduler("SequentialLR", state, schedulers=["StepLR"] * 2)


@pytest.mark.parametrize("phases", [None, [], [{}], 3, [{"end_step": "x"}]])
def test_a_cycle_of_another_form(phases):
    state, optimizer = cycle()
    for read in (import_scheduler, import_momentum_schedule):
        with pytest.raises(jopt.CheckpointError, match="what it says of itself is damaged"):
            read("OneCycleLR", {**state, "_schedule_phases": phases}, param_groups=optimizer)


@pytest.mark.parametrize("groups", [{"x": 1}, [], 3, [3], {"param_groups": None}])
def test_groups_that_are_none(groups):
    with pytest.raises(jopt.ConfigError, match="param_groups= are those of an optimizer"):
        import_scheduler("OneCycleLR", cycle()[0], param_groups=groups)


def test_arguments_that_do_not_fit():
    with pytest.raises(jopt.ConfigError, match=r"base_lr is a number\n  found:    'x'"):
        import_scheduler("StepLR", STEP, base_lr="x")
    state = {"lr_lambdas": [None], "base_lrs": [0.1], "last_epoch": 0}
    with pytest.raises(jopt.ConfigError, match="torch does not save functions"):
        import_scheduler("LambdaLR", state, lr_lambda=[])
