"""torch's own catalogue: every configuration it tests itself with, and every error it expects."""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.testing._internal.common_optimizers import optim_db

import jopt
from jopt.core.spec import REGISTRY
from jopt.interop.torch import optimizer
from tests.catalog import CATALOG
from tests.oracles.torch_live import gap

ENTRIES = {REGISTRY[entry.name].torch: entry for entry in CATALOG}
SPECS = {spec.torch: spec for spec in REGISTRY.values() if spec.torch}
HERE = [info for info in optim_db if info.optim_cls.__name__ in SPECS]


def name_of(info):
    return info.optim_cls.__name__


def driven_here(info):
    """Dense gradients, one evaluation a step, a live oracle: the others have tests of their own."""
    own = info.step_requires_closure or info.only_supports_sparse_grads
    return not own and name_of(info) in ENTRIES and bool(ENTRIES[name_of(info)].torch)


CONFIGS = [
    pytest.param(info, config.kwargs, id=f"{name_of(info)}-{config.desc.replace(' ', '_')}")
    for info in HERE
    if driven_here(info)
    for config in info.optim_inputs_func(device="cpu")
]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("info", "kwargs"), CONFIGS)
@pytest.mark.sampled
def test_float64(info, kwargs):
    entry = ENTRIES[name_of(info)]
    assert gap(name_of(info), kwargs, dtype=np.float64, ndims=entry.ndims) <= entry.tol64


@pytest.mark.parametrize(("info", "kwargs"), CONFIGS)
@pytest.mark.sampled
def test_float32(info, kwargs):
    entry = ENTRIES[name_of(info)]
    assert gap(name_of(info), kwargs, dtype=np.float32, ndims=entry.ndims) <= entry.tol32


@pytest.mark.parametrize("info", [i for i in HERE if driven_here(i)], ids=name_of)
def test_complex_parameters_are_taken_where_torch_takes_them(info):
    entry = ENTRIES[name_of(info)]
    assert (entry.complex and entry.torch_complex) is info.supports_complex
    assert (SPECS[name_of(info)].complex == "pairs") is entry.complex


# What torch refuses and jopt too: torch's pattern, and what jopt says.
REFUSED = {
    "Tensor lr must be 1-element": "'lr' is a tensor with more than one element",
    "Invalid rho value: 1.1": "rho is out of range\n  expected: [0, 1]\n  found:    1.1",
    "epsilon1 should be >= 0": "eps1 is out of range\n  expected: [0, inf)\n  found:    -1e-30",
    "Clipping threshold d should be >= 1": "clipping_threshold is out of range\n"
    "  expected: [1, inf)\n  found:    0.0",
    "beta2_decay should be <= 0": "b2_decay is out of range\n  expected: (-inf, 0]",
    "Invalid lr_decay value: -0.5": "lr_decay is out of range\n  expected: [0, inf)",
    "Invalid beta parameter at index 0: 1.0": "b1 is out of range\n  expected: [0, 1)",
    "Invalid beta parameter at index 1: 1.0": "b2 is out of range\n  expected: [0, 1)",
    "Invalid weight_decay value: -1": "weight_decay is out of range\n  expected: [0, inf)",
    "Invalid weight_decay value: -0.5": "weight_decay is out of range\n  expected: [0, inf)",
    "Invalid momentum_decay value: -0.2": "momentum_decay is out of range\n  expected: [0, inf)",
    "Invalid momentum value: -1.0": "momentum is out of range\n  expected: [0, inf)",
    "Invalid momentum value: -0.5": "momentum is out of range\n  expected: [0, inf)",
    "Invalid eta values: 1.0, 0.5": "eta_minus is out of range\n  expected: (0, 1)",
    "Muon only supports 2D parameters": "moves parameters with 2 axes only",
    "Adjust learning rate function arbitrary is not supported": "adjust_lr is unknown",
    "Muon does not support complex parameters": "has no rule for complex parameters",
}

# What torch refuses and jopt cannot or need not, with the reason.
NO_ERROR_HERE = {
    "Adafactor does not support complex parameters": "squares are |g|², as in its paper's reals",
    "params argument given to the optimizer should be an iterable of Tensors or dicts": (
        "a single array is a tree"
    ),
    ".*a parameter group with duplicate parameters.*": "a tree has each leaf once",
    "some parameters appear in more than one parameter group": (
        "groups are patterns; a leaf that two match is a GroupError, tested with the groups"
    ),
    "all optimizer params should be with/without names. Some param names are missing": (
        "a leaf is named by its path"
    ),
    "all optimizer param groups should be with/without names. "
    "cannot add param group with names to the optimizer": "a leaf is named by its path",
    "lr as a Tensor is not supported for capturable=False and foreach=True": (
        "how torch runs a step; every number is an array in the state"
    ),
    "betas must be either both floats or both Tensors": "numbers and arrays mix",
    "betas\\[0\\] as a Tensor is not supported for capturable=False and foreach=True": (
        "how torch runs a step; every number is an array in the state"
    ),
    "SparseAdam requires dense parameter tensors": "parameters are arrays, always dense",
    "SparseAdam does not support complex parameters": "jopt moves them as pairs of reals",
}

ERRORS = [(info, e) for info in HERE for e in info.optim_error_inputs_func("cpu", torch.float32)]


@pytest.mark.parametrize(
    ("info", "error"),
    [
        pytest.param(i, e, id=f"{name_of(i)}-{re.sub('[^a-z0-9]+', '_', e.error_regex.lower())}")
        for i, e in ERRORS
        if e.error_regex in REFUSED
    ],
)
def test_refused_as_in_torch(info, error):
    refused = error.optimizer_error_input
    leaves = [jnp.asarray(p.detach().numpy()) for p in refused.params or []]
    with pytest.raises(jopt.JoptError) as caught:
        optimizer(name_of(info), **refused.kwargs).init(leaves)
    assert REFUSED[error.error_regex] in str(caught.value)
    assert caught.value.transform in (SPECS[name_of(info)].name, f"torch.optim.{name_of(info)}")


def test_every_error_of_torch_is_judged():
    found = {e.error_regex for _, e in ERRORS}
    assert found <= REFUSED.keys() | NO_ERROR_HERE.keys()
    assert not REFUSED.keys() & NO_ERROR_HERE.keys()
