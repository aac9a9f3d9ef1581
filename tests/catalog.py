"""One entry for each optimizer: what the laws and the parity runs need to know about it.

Capabilities are data here, so that no test asks for an optimizer by name. A new optimizer is
a file in `jopt/optimizers/` and an entry in this list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jopt


@dataclass(frozen=True)
class Entry:
    """What the tests need to know about one optimizer.

    `settings` are jopt arguments that switch much of it on, for the laws. `torch` lists torch
    keyword arguments to run against torch itself. `tol64` and `tol32` bound the distance to
    torch after 100 steps, relative to each leaf's largest value.
    """

    factory: Callable[..., jopt.Transform]
    settings: dict[str, Any] = field(default_factory=dict)
    torch: tuple[dict[str, Any], ...] = ()
    tol64: float = 1e-12
    tol32: float = 3e-6
    complex: bool = True
    ndims: tuple[int, ...] = (0, 1, 2, 3)  # the ranks of parameter it takes
    still_on_zero_gradient: bool = True  # with no weight decay, a zero gradient moves nothing

    @property
    def name(self) -> str:
        return self.factory.__name__

    def make(self, **overrides: Any) -> jopt.Transform:
        return self.factory(**{**self.settings, **overrides})


CATALOG: tuple[Entry, ...] = (
    Entry(
        jopt.sgd,
        settings={"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        torch=(
            {},
            {"lr": 0.1},
            {"lr": 0.1, "weight_decay": 0.1},
            {"lr": 0.05, "momentum": 0.9},
            {"lr": 0.05, "momentum": 0.9, "dampening": 0.5},
            {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
            {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1},
            {"lr": 0.05, "maximize": True},
            {"lr": 0.05, "momentum": 0.9, "maximize": True, "weight_decay": 0.1},
        ),
    ),
    Entry(
        jopt.adam,
        settings={"learning_rate": 0.01, "weight_decay": 0.01, "amsgrad": True},
        torch=(
            {},
            {"lr": 0.01},
            {"lr": 0.01, "betas": (0.8, 0.95)},
            {"lr": 0.01, "betas": (0.0, 0.9)},
            {"lr": 0.01, "eps": 1e-3},
            {"lr": 0.01, "weight_decay": 0.1},
            {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
            {"lr": 0.01, "amsgrad": True},
            {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.01, "maximize": True},
        ),
    ),
    Entry(
        jopt.adamw,
        settings={"learning_rate": 0.01, "weight_decay": 0.1, "amsgrad": True},
        tol32=2e-5,
        torch=(
            {},
            {"lr": 0.01},
            {"lr": 0.01, "betas": (0.8, 0.95)},
            {"lr": 0.01, "eps": 1e-3},
            {"lr": 0.01, "weight_decay": 0.0},
            {"lr": 0.01, "weight_decay": 0.1},
            {"lr": 0.01, "amsgrad": True},
            {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.01, "maximize": True},
        ),
    ),
)

BY_NAME = {entry.name: entry for entry in CATALOG}
