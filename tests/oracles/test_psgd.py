"""psgd-jax run live beside Kron: `pip install -e '.[references]'`.

Two things of it are ours: what it draws, so that both see the same numbers, and the name of a
module that optax has moved and it imports, but does not use.

What is left between the two, 10⁻⁷ of the way, is in its balancing: `_balance_Q` has the largest
entries in float32 (`dtype=jnp.float32` at their norms), ours in the dtype of the factors. Where
no step balances, they agree to 10⁻¹¹.
"""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from tests.oracles.papers.draws import as_drawn, fits
from tests.oracles.problems import problem
from tests.oracles.torch_live import jopt_run

STEPS = 50
FALLING: dict[str, Any] = {"max_prob": 1.0, "min_prob": 0.1, "decay": 0.1, "flat_start": 10}


def falling(t: Any) -> Any:
    """1 for each step at which their counter lets factors be fitted, at a falling probability."""
    probability, since, found = package().precond_update_prob_schedule(**FALLING), 0, []
    for step in range(1, STEPS + 1):
        since += 1
        with jax.ensure_compile_time_eval():
            due = bool(since >= 1 / probability(step))
        since = 0 if due else since
        found.append(float(due))
    return jnp.asarray(found)[t]


ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "falling": (
        {"preconditioner_update_probability": FALLING, "b1": 0.5, "preconditioner_lr": 0.2},
        {"update_probability": falling, "b1": 0.5, "preconditioner_rate": 0.2},
    ),
    "one diagonal": (
        {"memory_save_mode": "one_diag", "preconditioner_init_scale": 0.1, "weight_decay": 0.1},
        {"diagonal": "one", "init_scale": 0.1, "weight_decay": 0.1},
    ),
    "all diagonal": (
        {"memory_save_mode": "all_diag", "b1": 0.0},
        {"diagonal": "all", "b1": 0.0},
    ),
    "gradients, short axes": (
        {"momentum_into_precond_update": False, "max_size_triangular": 3},
        {"momentum_fits": False, "max_size": 3},
    ),
}
"""By row their arguments, and ours."""


def package() -> Any:
    """Their module, where it is installed."""
    sys.modules.setdefault("optax._src.clipping", optax.transforms)
    optax._src.clipping = optax.transforms
    pytest.importorskip("psgd_jax")
    return importlib.import_module("psgd_jax.kron")


def theirs(said: dict[str, Any], params: Any, grads: Any, seed: int, monkeypatch: Any) -> Any:
    """Where it leads, with our draws."""
    kron, now = package(), SimpleNamespace()
    _, balancing, normal = map(jnp.asarray, fits(seed))
    random = SimpleNamespace(**vars(jax.random))
    random.uniform = lambda key: balancing[now.step]
    random.normal = lambda key, shape, dtype: as_drawn(normal[now.step], shape)
    monkeypatch.setattr(kron, "jax", SimpleNamespace(**{**vars(jax), "random": random}))
    chance = said.get("preconditioner_update_probability")
    if chance:
        chance = kron.precond_update_prob_schedule(**chance)
        said = {**said, "preconditioner_update_probability": chance}
    tx = kron.kron(0.01, **said)

    def one(carry: Any, given: Any) -> Any:
        now.step, grads = given
        updates, state = tx.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    start = jax.tree.map(jnp.asarray, params)
    steps = jnp.arange(1, STEPS + 1), jax.tree.map(jnp.asarray, grads)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.jit(lambda p: jax.lax.scan(one, (p, tx.init(p)), steps)[0][0])(start)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", [1, 2], ids=["not balanced", "balanced twice"])
@pytest.mark.parametrize("name", ROWS)
def test_kron_takes_the_steps_of_psgd_jax(name, seed, monkeypatch):
    balances = np.sum(fits(seed)[1][1 : STEPS + 1] < 0.01)
    assert balances == (2 if seed == 2 else 0)
    params, grads = problem((0, 1, 2, 3), STEPS)
    said, numbers = ROWS[name]
    tx = jopt.kron(0.01, seed=seed, **numbers)
    found = jopt_run(tx, params, grads, np.float64).params
    want = theirs(said, params, grads, seed, monkeypatch)
    way = {k: np.max(np.abs(want[k] - params[k])) for k in params}
    gap = max(float(np.max(np.abs(found[k] - want[k])) / way[k]) for k in params)
    assert gap <= (1e-6 if balances else 1e-11)
