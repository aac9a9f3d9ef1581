"""Every optimizer that torch has, in every configuration of the catalogue, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jopt.core.spec import REGISTRY
from tests.catalog import BY_NAME, CATALOG, Entry
from tests.oracles.torch_live import Side, gap

TORCH = [entry for entry in CATALOG if entry.torch]


def torch_name(entry: Entry) -> str:
    return REGISTRY[entry.name].torch


def label(kwargs: dict[str, Any]) -> str:
    return ",".join(f"{k}={v}" for k, v in kwargs.items()) or "defaults"


CONFIGS = [
    pytest.param(entry, kwargs, id=f"{entry.name}-{label(kwargs)}")
    for entry in TORCH
    for kwargs in entry.torch
]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("entry", "kwargs"), CONFIGS)
def test_float64(entry, kwargs):
    found = gap(torch_name(entry), kwargs, dtype=np.float64, ndims=entry.ndims)
    assert found <= entry.tol64


@pytest.mark.parametrize(("entry", "kwargs"), CONFIGS)
def test_float32(entry, kwargs):
    found = gap(torch_name(entry), kwargs, dtype=np.float32, ndims=entry.ndims)
    assert found <= entry.tol32


@pytest.mark.parametrize("kwargs", BY_NAME["adamw"].torch, ids=label)
def test_adamw_float32_after_a_thousand_steps(kwargs):
    assert gap("AdamW", kwargs, dtype=np.float32, steps=1000) <= 2e-5


# Two groups beside the default one. Torch keys that an optimizer lacks are left out.
GROUPS = (
    ("bias$|scale$", {"lr": 0.003, "weight_decay": 0.0}),
    ("^head/(kernel|conv)$", {"weight_decay": 0.2}),
)
SCHEDULERS = (
    ("StepLR", {"step_size": 30, "gamma": 0.3}),
    ("CosineAnnealingLR", {"T_max": 100, "eta_min": 1e-4}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 40}),
)


def groups_for(entry: Entry) -> tuple[tuple[str, dict[str, Any]], ...]:
    """GROUPS, less what the optimizer's leaves or arguments do not have."""
    keys = {h.torch for h in REGISTRY[entry.name].hypers}
    ranks = {"bias$|scale$": (0, 1), "^head/(kernel|conv)$": (2, 3)}
    return tuple(
        (pattern, {k: v for k, v in own.items() if k in keys})
        for pattern, own in GROUPS
        if set(ranks[pattern]) & set(entry.ndims)
    )


def last(entry: Entry) -> dict[str, Any]:
    """One of the configurations, with a learning rate that moves."""
    return {**entry.torch[-1], "lr": 0.01}


def scheduled(entry: Entry) -> bool:
    """Whether a schedule may drive the learning rate (not if it is read only once)."""
    return REGISTRY[entry.name].by_name["learning_rate"].scheduled


SIDES = [
    pytest.param(entry, Side(groups=groups, scheduler=scheduler), id=f"{entry.name}-{which}")
    for entry in TORCH
    for groups, scheduler, which in (
        (groups_for(entry), None, "groups"),
        *(((), s, s[0]) for s in SCHEDULERS),
        *((groups_for(entry), s, f"groups-{s[0]}") for s in SCHEDULERS[:2]),
    )
    if scheduler is None or scheduled(entry)
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("entry", "side"), SIDES)
def test_groups_and_schedules_float64(entry, side):
    found = gap(torch_name(entry), last(entry), dtype=np.float64, ndims=entry.ndims, side=side)
    assert found <= entry.tol64


@pytest.mark.parametrize("entry", [e for e in TORCH if scheduled(e)], ids=lambda e: e.name)
def test_groups_and_a_schedule_float32(entry):
    side = Side(groups=groups_for(entry), scheduler=SCHEDULERS[1])
    found = gap(torch_name(entry), last(entry), dtype=np.float32, ndims=entry.ndims, side=side)
    assert found <= entry.tol32


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "entry", [e for e in TORCH if e.complex and e.torch_complex], ids=lambda e: e.name
)
def test_complex128(entry):
    found = gap(torch_name(entry), last(entry), dtype=np.complex128, ndims=entry.ndims)
    assert found <= entry.tol64


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("entry", TORCH, ids=lambda e: e.name)
def test_a_leaf_without_gradient_is_skipped_wholly(entry):
    # Rows are steps, columns leaves: one leaf joins late, one sits out twice, one never moves.
    leaves = sum(rank in entry.ndims for rank in (0, 1, 2, 1, 2, 3))
    present = np.ones((12, leaves), bool)
    present[:4, 0] = present[3:5, -1] = present[8, -1] = False
    if leaves > 2:
        present[:, 1] = False
    found = gap(
        torch_name(entry),
        last(entry),
        dtype=np.float64,
        steps=12,
        ndims=entry.ndims,
        side=Side(present=present),
    )
    assert found <= entry.tol64
