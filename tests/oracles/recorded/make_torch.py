"""Records where three packages for torch lead whose imports want what they do not need here.

adam-mini 1.1.1, apollo-torch 1.0.3 and galore-torch 1.0, installed without their dependencies; from
the root of the repository

    JAX_ENABLE_X64=1 python -m tests.oracles.recorded.make_torch

writes `steps_torch.json`, as `make.py` does.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch

from tests.oracles.papers.draws import projections
from tests.oracles.problems import problem
from tests.oracles.recorded.kept import STEPS, keep, lively

NUMBERS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-30}
LOW: dict[str, Any] = {"rank": 2, "update_proj_gap": 100, "scale": 0.25, "proj_type": "std"}
RANDOM = {**LOW, "update_proj_gap": 7, "proj": "random"}


def without(name: str, **said: Any) -> None:
    """A module of which only these names are there."""
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(said)


def of_galore(params: dict[str, Any]) -> Any:
    group = {"params": [*params.values()], **LOW}
    return importlib.import_module("galore_torch.adamw").AdamW(
        [group], no_deprecation_warning=True, **NUMBERS
    )


def of_apollo(params: dict[str, Any], **said: Any) -> Any:
    """The package, which draws from our stream by turn."""
    random: Any = importlib.import_module("apollo_torch.random_projector")

    def drawn(shape: Any, seed: int, **_: Any) -> Any:
        rank = said["rank"]
        of = projections(0)[seed, : int(np.prod(shape))].reshape(rank, -1)
        return torch.tensor(of if shape[0] == rank else of.T)

    random.stable_randn, random.next_seed = drawn, lambda seed: seed + 1
    group = {"params": [*params.values()], **RANDOM, **said}
    made = importlib.import_module("apollo_torch.apollo").AdamW([group], **NUMBERS)
    for p in params.values():
        made.state[p]["seed"] = 0
    return made


def of_adam_mini(params: dict[str, Any]) -> Any:
    """Every matrix a neuron's by rows."""
    named = [(f"mlp.{i}", p) for i, p in enumerate(params.values())]
    package: Any = importlib.import_module("adam_mini.adam_mini")
    return package.Adam_mini(named, **NUMBERS, weight_decay=0.1, dim=4, n_heads=2, verbose=False)


ROWS = {
    "galore": of_galore,
    "apollo": lambda params: of_apollo(params, rank=2, scale_type="channel"),
    "apollo mini": lambda params: of_apollo(params, rank=1, scale_type="tensor", scale=128.0),
    "adam_mini": of_adam_mini,
}


def led(make: Any) -> Any:
    """How far the matrices have gone."""
    start, grads = problem((2,), STEPS)
    params = {k: torch.nn.Parameter(torch.tensor(x)) for k, x in start.items()}
    optimizer = make(params)
    for t in range(STEPS):
        for k, p in params.items():
            p.grad = torch.tensor(lively(grads[k])[t])
        optimizer.step()
    return {k: (p.detach().numpy() - start[k]).tolist() for k, p in params.items()}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = lambda x: x  # decompositions in the dtype of what is decomposed
    without("transformers")
    without("transformers.utils")
    without("transformers.utils.versions", require_version=lambda _: None)
    for package in ("galore_torch", "apollo_torch"):
        where = importlib.util.find_spec(package)
        without(package, __path__=where.submodule_search_locations)
    keep("steps_torch.json", {name: led(make) for name, make in ROWS.items()})
