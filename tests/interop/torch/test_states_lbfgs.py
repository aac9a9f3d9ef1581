"""L-BFGS between torch's flat vectors and jopt's histories."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt import CheckpointError
from jopt.interop.torch import Weight, export_optimizer, import_optimizer, optimizer
from tests.interop.torch.states_runs import distance, flat, through_a_file, tree

CASES = {
    "plain": {"lr": 0.1, "max_iter": 3, "history_size": 4},
    "search": {"max_iter": 2, "history_size": 3, "line_search_fn": "strong_wolfe"},
    "one iteration": {"lr": 0.05, "max_iter": 1, "history_size": 5},
    "long history": {"lr": 0.1, "max_iter": 4},
}
START = {"b": np.array([1.5, -1.0, 0.5]), "a": np.array([[1.2, 1.0, -1.1], [0.8, 0.1, 2.0]])}
NAMES = {"b": "b", "a": Weight("a", (1, 0))}  # torch has the order of this dict, and a's transpose


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def fun(params):
    """Quadratic in the main, with a quartic part; torch and jax compute it alike."""
    x = jnp.concatenate([params["b"], jnp.ravel(params["a"])])
    size = jnp.real(x * jnp.conj(x))
    return jnp.sum(jnp.arange(1, x.size + 1, dtype=size.dtype) * size) + 0.1 * jnp.sum(size**2)


look = jax.jit(jax.value_and_grad(fun))


class Run:
    """torch's LBFGS on `fun`, with `a` transposed."""

    def __init__(self, params, kwargs):
        turned = {"b": params["b"], "a": params["a"].T.copy()}
        self.leaves = {k: torch.tensor(v).requires_grad_() for k, v in turned.items()}
        self.optimizer = torch.optim.LBFGS(list(self.leaves.values()), **kwargs)

    @property
    def params(self):
        held = {k: v.detach().numpy().copy() for k, v in self.leaves.items()}
        return {"b": held["b"], "a": held["a"].T}

    def run(self, steps):
        def closure():
            value, grads = look(self.params)
            for k, g in grads.items():  # torch's gradient of a complex number is jax's conjugate
                g = np.conj(np.asarray(g))
                self.leaves[k].grad = torch.tensor(g.T.copy() if k == "a" else g)
            return torch.tensor(float(value), dtype=torch.float64)

        for _ in range(steps):
            self.optimizer.step(closure)
        return self


def jopt_steps(tx, params, state, steps):
    extra = {"value_fn": fun} if tx.parts["lbfgs"].extra else {}

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(fun)(params)
        grads = jax.tree.map(jnp.conj, grads)
        updates, state = tx.update(grads, state, params, value=value, **extra)
        return jopt.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


COMPLEX = {k: v + 0.5j * v[..., ::-1] for k, v in START.items()}
RUNS = [
    ("plain", 0, START),
    ("plain", 4, START),
    ("plain", 3, COMPLEX),
    ("search", 4, START),
    ("one iteration", 1, START),
    ("one iteration", 4, START),
    ("long history", 2, START),
]


@pytest.mark.parametrize(("case", "before", "start"), RUNS)
@pytest.mark.sampled
def test_there_and_back(case, before, start, x64):
    kwargs = CASES[case]
    theirs = Run(start, kwargs).run(before)
    tx = optimizer("LBFGS", **kwargs)
    params = tree(theirs.params)
    state = import_optimizer(tx, params, through_a_file(theirs.optimizer.state_dict()), NAMES)
    params, state = jopt_steps(tx, params, state, 3)
    assert distance(flat(params), theirs.run(3).params) <= 1e-11
    saved = export_optimizer(tx, params, state, NAMES)
    entry = saved["state"][0]
    kept = theirs.optimizer.state_dict()["state"][0]
    assert set(entry) <= set(kept) | {"al"}
    for key in ("n_iter", "func_evals"):
        assert entry[key] == kept[key]
    for key in ("old_dirs", "old_stps", "ro"):
        assert len(entry[key]) == len(kept[key])
        for ours, torchs in zip(entry[key], kept[key], strict=True):
            np.testing.assert_allclose(ours, torchs, rtol=1e-6, atol=1e-12)
    fresh = Run(flat(params), kwargs)
    fresh.optimizer.load_state_dict(through_a_file(saved))
    assert distance(fresh.run(2).params, theirs.run(2).params) <= 1e-11


def test_one_that_was_optimal_at_once_has_made_no_iteration(x64):
    zero = {k: np.zeros_like(v) for k, v in START.items()}
    saved = Run(zero, {}).run(1).optimizer.state_dict()
    assert saved["state"][0] == {"func_evals": 1, "n_iter": 0}
    tx, params = jopt.lbfgs(), tree(zero)
    state = import_optimizer(tx, params, saved, NAMES)
    assert int(state["lbfgs"]["func_evals"]["default"]) == 1
    assert export_optimizer(tx, params, state, NAMES)["state"] == saved["state"]
    assert export_optimizer(tx, params, tx.init(params), NAMES)["state"] == {}


def test_a_leaf_that_sat_out_makes_torch_start_anew_too(x64):
    kwargs = CASES["one iteration"]
    tx, params = optimizer("LBFGS", **kwargs), tree(START)
    params, state = jopt_steps(tx, params, tx.init(params), 3)
    grads = {**look(params)[1], "a": None}
    _, state = jax.jit(tx.update)(grads, state, params)
    saved = export_optimizer(tx, params, state, NAMES)
    assert saved["state"] == {0: {"func_evals": 4, "n_iter": 0}}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"d": torch.zeros(8, dtype=torch.float64)}, r"d: shape: expected \(9,\), found \(8,\)"),
        ({"old_dirs": []}, "old_stps and old_dirs: expected as many of each, found 4 and 0"),
        (
            {"old_dirs": 3, "t": "x"},
            "(?s)old_dirs: expected a list.*t: expected an array, found str",
        ),
        ({"n_iter": 1.5}, "n_iter: expected a whole number from 0, found 1.5"),
        ({"H_diag": None}, "H_diag is missing"),
        ({"velocity": 1}, "velocity is unexpected"),
        (
            {"d": torch.zeros(9, dtype=torch.complex128)},
            "d: dtype: expected float64, found complex",
        ),
    ],
)
def test_what_does_not_fit_is_listed(change, line, x64):
    kwargs = CASES["plain"]
    saved = through_a_file(Run(START, kwargs).run(3).optimizer.state_dict())
    saved["state"][0].update(change)
    tx, params = optimizer("LBFGS", **kwargs), tree(START)
    with pytest.raises(CheckpointError, match=line):
        import_optimizer(tx, params, saved, NAMES)
