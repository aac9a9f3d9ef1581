"""Wrong types and orders in every function of the room: each answer is jopt's error, or right."""

import itertools

import jax.numpy as jnp
import pytest
import torch

import jopt
from jopt.interop import torch as interop
from tests.calls.bent import told
from tests.calls.things import THINGS

BAD = [*THINGS.values(), torch.ones(2), torch.tensor(0.5)]

PAIRS = [("StepLR", {"step_size": 3}), ("ExponentialLR", {"gamma": 0.9})]
GOOD = {
    "ChainedScheduler": {"schedulers": PAIRS},
    "ConstantLR": {"factor": 0.5, "total_iters": 3},
    "CosineAnnealingLR": {"T_max": 4, "eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2, "eta_min": 0.0},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 0.2, "step_size_up": 3, "mode": "triangular"},
    "ExponentialLR": {"gamma": 0.9},
    "LambdaLR": {"lr_lambda": lambda t: 1.0 / (1 + t), "steps": None},
    "LinearLR": {"start_factor": 0.5, "end_factor": 1.0, "total_iters": 3},
    "MultiStepLR": {"milestones": [1, 2], "gamma": 0.5},
    "MultiplicativeLR": {"lr_lambda": lambda t: 0.9, "steps": None},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 9, "pct_start": 0.3, "anneal_strategy": "cos"},
    "PolynomialLR": {"total_iters": 3, "power": 1.0},
    "ReduceLROnPlateau": {"mode": "min", "factor": 0.1, "patience": 2, "threshold_mode": "rel"},
    "SWALR": {"swa_lr": 0.01, "anneal_epochs": 3, "anneal_strategy": "cos"},
    "SequentialLR": {"schedulers": PAIRS, "milestones": [3]},
    "StepLR": {"step_size": 3, "gamma": 0.5},
}

WRONG = [
    ("MultiStepLR", {"milestones": 5}, "milestones is a row of things"),
    ("StepLR", {"gamma": "x"}, "gamma is a number"),
    ("StepLR", {"gamma": float("nan")}, "gamma is a finite number"),
    ("StepLR", {"gamma": True}, "gamma is a number"),
    ("StepLR", {"gamma": [0.1, 0.2]}, "gamma has a value for each parameter group"),
    ("StepLR", {"gamma": torch.ones(2)}, "gamma is a tensor with more than one element"),
    ("LambdaLR", {"lr_lambda": 0.5}, "lr_lambda is a function"),
    ("OneCycleLR", {"three_phase": 1}, "three_phase is a choice"),
    ("OneCycleLR", {"div_factor": 0.0}, "div_factor is out of range"),
    ("CyclicLR", {"mode": 3}, "mode is a word"),
    ("SequentialLR", {"schedulers": 3}, "schedulers is a row of things"),
    ("ChainedScheduler", {"schedulers": [("StepLR",)]}, "this is no scheduler"),
]


@pytest.mark.parametrize(("name", "bent", "text"), WRONG)
def test_a_wrong_argument_of_a_scheduler_is_told_by_its_name(name, bent, text):
    with pytest.raises(jopt.ConfigError, match=text):
        interop.scheduler(name, 0.1, **{**GOOD[name], **bent})


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_every_argument_of_every_scheduler(name):
    assert not isinstance(told(interop.scheduler, name, 0.1, **GOOD[name]), Exception)
    for bad in BAD:
        told(interop.scheduler, name, bad, **GOOD[name])
        told(interop.scheduler, bad, 0.1, **GOOD[name])
        for key in GOOD[name]:
            told(interop.scheduler, name, 0.1, **{**GOOD[name], key: bad})
            if name in ("CyclicLR", "OneCycleLR"):
                told(interop.momentum_schedule, name, **{**GOOD[name], key: bad})


def saved(name):
    """A state dict of torch's, and what else the import needs."""
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    kwargs = {k: v for k, v in GOOD[name].items() if k not in ("steps", "schedulers")}
    made = {**vars(torch.optim.lr_scheduler), "SWALR": torch.optim.swa_utils.SWALR}
    more = {"lr_lambda": kwargs["lr_lambda"]} if "lr_lambda" in kwargs else {}
    if "schedulers" in GOOD[name]:
        inner = [made[child](sgd, **given) for child, given in PAIRS]
        driver = made[name](sgd, inner, **kwargs) if kwargs else made[name](inner)
        more["schedulers"] = [child for child, _ in PAIRS]
    else:
        driver = made[name](sgd, **kwargs)
    return driver.state_dict(), {**more, "param_groups": sgd.state_dict()}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_every_entry_of_every_saved_scheduler(name):
    state, more = saved(name)
    interop.import_scheduler(name, state, **more)
    for bad in BAD:
        told(interop.import_scheduler, name, bad, **more)
        told(interop.import_scheduler, bad, state, **more)
        for key in state:
            told(interop.import_scheduler, name, {**state, key: bad}, **more)
        for key in ("group", "base_lr", "every", "count", *more):
            told(interop.import_scheduler, name, state, **{**more, key: bad})


PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}
LIKE = {"weight": PARAMS["w"], "bias": PARAMS["b"]}
ORDER = ["b", "w"]


@pytest.mark.slow
def test_every_argument_of_every_import_and_export():
    tx = jopt.adamw(0.1)
    state = tx.init(PARAMS)
    file = interop.export_optimizer(tx, PARAMS, state, ORDER)
    [group] = file["param_groups"]
    weights = torch.nn.Linear(3, 2).state_dict()
    names = {"weight": "weight", "bias": "bias"}
    step, plateau = jopt.schedules.step(0.1, 3), jopt.schedules.plateau(0.1)
    calls = {
        interop.import_optimizer: ((tx, PARAMS, file), {"names": ORDER, "count": 0, "cast": False}),
        interop.export_optimizer: ((tx, PARAMS, state), {"names": ORDER, "mid_round": False}),
        interop.from_state_dict: (("AdamW", file, PARAMS), {"names": ORDER}),
        interop.import_params: (
            (LIKE, weights),
            {"names": names, "cast": False, "ignore": None},
        ),
        interop.export_params: ((LIKE,), {"names": names}),
        interop.flax_weights: (
            (LIKE,),
            {"rename": {"z": "y"}, "prefix": "", "given": {}, "order": ["weight", "bias"]},
        ),
        interop.read_checkpoint: (
            ({"optimizer": file},),
            dict.fromkeys(("names", "norms", "which")),
        ),
        interop.export_scheduler: (
            (step, 3),
            {"memory": None, "momentum": None, "beta1": False, "base_lr": None, "as_lambda": False},
        ),
        interop.paced: ((step,), {"every": 1, "shift": 0}),
        interop.resumed: ((plateau,), {"value": 0.1, "best": 1.0, "bad": 0, "cooldown": 0}),
        interop.huggingface_schedule: (("linear", 0.1), {"warmup_steps": 2, "training_steps": 9}),
        interop.huggingface_groups: ((["a.bias"],), {"norms": None}),
        interop.Weight: (("a",), {"axes": None}),
        interop.optimizer: (("AdamW",), {"lr": 0.1, "betas": (0.9, 0.99), "amsgrad": False}),
    }
    for function, (args, kwargs) in calls.items():
        assert not isinstance(told(function, *args, **kwargs), Exception), function
        for bad in BAD:
            for i in range(len(args)):
                told(function, *args[:i], bad, *args[i + 1 :], **kwargs)
            for key in kwargs:
                told(function, *args, **{**kwargs, key: bad})
        for order in itertools.permutations(args):
            told(function, *order, **kwargs)
    for bad in BAD:
        for key in file:
            told(interop.import_optimizer, tx, PARAMS, {**file, key: bad}, ORDER)
            told(interop.read_checkpoint, {"optimizer": {**file, key: bad}})
        for key in group:
            bent = {**file, "param_groups": [{**group, key: bad}]}
            told(interop.import_optimizer, tx, PARAMS, bent, ORDER)
            told(interop.from_state_dict, "AdamW", bent, PARAMS, ORDER)
