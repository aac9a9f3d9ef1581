"""A run that starts in torch, goes on in jopt and ends in torch is the run that stayed in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jopt.core.spec import REGISTRY
from jopt.interop.torch import export_optimizer, import_optimizer, optimizer
from tests.catalog import CATALOG
from tests.interop.torch.states_runs import (
    Torch,
    distance,
    flat,
    steps_of_jopt,
    through_a_file,
    tree,
)
from tests.oracles.optim_db import configurations
from tests.oracles.problems import problem
from tests.oracles.torch_live import scalars_in

TORCH = [entry for entry in CATALOG if entry.torch]


def cases(of):
    return [
        pytest.param(entry, kwargs, id=f"{entry.name}-{n}")
        for entry in TORCH
        for n, kwargs in enumerate(of(entry))
    ]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def two_leaves(arrays):
    """A vector and a matrix, in another order than jopt's, which is sorted."""
    return {k: arrays[k] for k in ("head/bias", "encoder/kernel")}


def moved(entry, kwargs, dtype, first, middle, last):
    """The distance from torch after jopt's steps, and after torch's own that follow them."""
    name, stop = REGISTRY[entry.name].torch, first + middle + last
    params, grads = (two_leaves(part) for part in problem(entry.ndims, stop))
    with scalars_in(dtype):
        theirs = Torch(name, kwargs, params, dtype).run(grads, range(first))
        tx, start = optimizer(name, **kwargs), tree(theirs.params, dtype)
        state = import_optimizer(tx, start, theirs.saved(), list(params))
        there = range(first, first + middle)
        sparse = REGISTRY[entry.name].sparse == "rows"
        now, state = steps_of_jopt(tx, start, state, grads, there, sparse=sparse)
        theirs.run(grads, there)
        halfway = distance(flat(now), theirs.params)
        saved = through_a_file(export_optimizer(tx, now, state, list(params)))
        back = Torch(name, kwargs, {k: flat(now)[k] for k in params}, dtype)
        back.optimizer.load_state_dict(saved)
        rest = range(first + middle, stop)
        end = distance(back.run(grads, rest).params, theirs.run(grads, rest).params)
    return halfway, end


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("entry", "kwargs"), cases(lambda entry: entry.torch))
@pytest.mark.sampled
def test_float64(entry, kwargs):
    assert max(moved(entry, kwargs, np.float64, 6, 4, 4)) <= entry.tol64


@pytest.mark.parametrize(("entry", "kwargs"), cases(lambda entry: entry.torch[-1:]))
@pytest.mark.sampled
def test_float32(entry, kwargs):
    assert max(moved(entry, kwargs, np.float32, 6, 4, 4)) <= entry.tol32


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("entry", "kwargs"), cases(lambda entry: configurations(REGISTRY[entry.name].torch))
)
def test_float64_of_torch_s_own_configurations(entry, kwargs):
    assert max(moved(entry, kwargs, np.float64, 40, 30, 30)) <= entry.tol64


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "kwargs"), cases(lambda entry: entry.torch))
def test_float32_of_every_configuration(entry, kwargs):
    assert max(moved(entry, kwargs, np.float32, 40, 30, 30)) <= entry.tol32
