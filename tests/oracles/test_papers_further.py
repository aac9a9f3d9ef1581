"""Further configurations of optimizers whose programs are large, against their papers' lines."""

from __future__ import annotations

import numpy as np
import pytest

from tests.catalog import BY_NAME
from tests.oracles.problems import problem
from tests.oracles.test_papers import STEPS, as_the_paper
from tests.oracles.torch_live import distance, jopt_run

FURTHER = {
    "apollo": ({},),
    "kron": (
        {},
        {"b1": 0.0, "max_size": 3, "momentum_fits": False},
        {"diagonal": "all", "max_rms": None, "init_scale": 3.0},
        {"spread": True, "update_every": 3, "update_probability": 0.4},
        {"spread": True, "update_every": 4, "update_probability": 0.2},
    ),
    "shampoo": (
        {},
        {"graft": "sgd", "update_every": 4, "start": 3, "method": "newton", "ridge": 1e-3},
        {"b1": 0.0, "b2": 1.0, "eps": 1e-3, "graft": None, "power": 2, "vectors": True},
        {"spread": True, "block_size": 2, "update_every": 3, "start": 2, "ridge": 1e-3},
    ),
    "soap": ({"max_size": 4},),
}
RUNS = [
    pytest.param(n, r, id=f"{n}-{i}") for n, runs in FURTHER.items() for i, r in enumerate(runs)
]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "run"), RUNS)
def test_the_papers_lines(name, run):
    entry = BY_NAME[name]
    params, grads = problem(entry.ndims, STEPS)
    ours = jopt_run(entry.factory(**run), params, grads, np.float64)
    assert distance(ours, as_the_paper(entry, run, params, grads)) <= 1e-10
