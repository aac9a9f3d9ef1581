"""Drawn hyperparameters against torch. Programs are compiled once; the numbers are data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jopt.core.spec import REGISTRY
from jopt.interop.torch import optimizer
from tests.catalog import CATALOG, Entry
from tests.oracles.problems import problem
from tests.oracles.torch_live import PLAIN as ALONE
from tests.oracles.torch_live import distance, jopt_run, scalars_in, torch_run

STEPS = 30


def off_or(low, high):
    return st.just(0.0) | st.floats(low, high)


# Torch's keys (others keep its defaults), with ranges in which a run is not chaotic: a long
# normalised step over a weight that mostly its own decay moves jumps across 0 again and again,
# and amplifies any rounding.
DRAWN = {
    "lr": st.floats(1e-4, 0.05),
    "betas": st.tuples(st.floats(0.0, 0.99), st.floats(0.9, 0.9999)),
    "eps": st.floats(1e-8, 1e-2),
    "weight_decay": off_or(1e-3, 0.1),
    "momentum": off_or(0.1, 0.99),
    "dampening": st.floats(0.0, 0.9),
    "momentum_decay": off_or(1e-3, 0.5),
    "rho": st.floats(0.0, 1.0),
    "lr_decay": off_or(1e-3, 1.0),
    "initial_accumulator_value": off_or(1e-3, 1.0),
    "etas": st.tuples(st.floats(0.1, 0.9), st.floats(1.05, 2.0)),
    "step_sizes": st.tuples(st.floats(1e-6, 1e-3), st.floats(0.01, 50.0)),
    "lambd": off_or(1e-4, 0.5),
    "t0": st.floats(0.0, 40.0),
    "beta2_decay": st.floats(-1.0, -0.1),
    "d": st.floats(1.0, 3.0),
    **dict.fromkeys(
        ("amsgrad", "centered", "maximize", "decoupled_weight_decay", "nesterov"), st.booleans()
    ),
}
# Where one key means two things.
OWN = {
    "ASGD": {"alpha": st.floats(0.1, 1.0)},
    "RMSprop": {"alpha": st.floats(0.5, 0.999)},
    "Adafactor": {"eps": st.tuples(st.none() | st.floats(1e-8, 1e-2), st.floats(1e-6, 0.1))},
}


def drawn(name: str) -> st.SearchStrategy:
    spec = next(s for s in REGISTRY.values() if s.torch == name)
    keys = {key.split("[")[0] for key in spec.torch_names}
    known = DRAWN | OWN.get(name, {})
    return st.fixed_dictionaries({key: known[key] for key in sorted(keys & known.keys())}).map(
        sound
    )


def sound(kwargs):
    """Nesterov needs momentum, and no dampening."""
    if kwargs.get("nesterov") and "dampening" in kwargs:
        return {**kwargs, "dampening": 0.0, "nesterov": kwargs["momentum"] > 0}
    return kwargs


LIVE = [e for e in CATALOG if e.torch and REGISTRY[e.name].sparse == "no"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("entry", LIVE, ids=lambda e: e.name)
def test_float64(entry: Entry):
    name = REGISTRY[entry.name].torch
    torch.set_num_threads(1)

    @settings(max_examples=20, deadline=None, database=None, derandomize=True)
    @given(kwargs=drawn(name), seed=st.integers(0, 2**16))
    def follows_torch(kwargs, seed):
        params, grads = problem(entry.ndims, STEPS, seed=seed)
        with scalars_in(np.float64):
            theirs = torch_run(name, kwargs, params, grads, np.float64, ALONE)
        ours = jopt_run(optimizer(name, **kwargs), params, grads, np.float64)
        assert distance(ours, theirs) <= entry.tol64

    follows_torch()
