"""Finite gradients whose squares are infinite in float32: parameters stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.core.spec import REGISTRY
from jopt.interop.torch import optimizer
from jopt.testing import dtypes
from jopt.testing.subject import Subject
from tests.catalog import BY_NAME, CATALOG
from tests.oracles.torch_live import rows

# L-BFGS evaluates a function, and such a gradient belongs to one that is as steep.
TORCHS = {entry.name for entry in CATALOG if REGISTRY[entry.name].torch}
NAMES = [entry.name for entry in CATALOG if entry.reverse_mode and entry.name in TORCHS]
OURS = [entry for entry in CATALOG if entry.name not in TORCHS]
SETTINGS = {"sgd": {"momentum": 0.9}, "rmsprop": {"centered": True, "momentum": 0.9}}
START = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
NORMAL = np.random.default_rng(1).normal(size=(4, 4, 3))


def in_torch(name, grads):
    p = torch.nn.Parameter(torch.tensor(START))
    opt = getattr(torch.optim, REGISTRY[name].torch)([p], **SETTINGS.get(name, {}))
    path = []
    for g in map(torch.tensor, grads):
        p.grad = g.to_sparse(1) if REGISTRY[name].sparse == "rows" else g
        opt.step()
        path.append(p.detach().numpy().copy())
    return np.stack(path)


def in_jopt(name):
    tx = optimizer(REGISTRY[name].torch, **SETTINGS.get(name, {}))

    def step(carry, g):
        p, s = carry
        updates, s = tx.update(rows(g) if REGISTRY[name].sparse == "rows" else g, s, p)
        p = jopt.apply_updates(p, updates)
        return (p, s), p

    start = jnp.asarray(START)
    return jax.jit(lambda grads: jax.lax.scan(step, (start, tx.init(start)), grads)[1])


@pytest.mark.parametrize("name", NAMES)
def test_parameters_stay_finite_wherever_torchs_do_and_beyond(name):
    run = in_jopt(name)
    for sizes in dtypes.HUGE:
        grads = (np.reshape(sizes, (4, 1, 1)) * NORMAL).astype(np.float32)
        ours, theirs = np.asarray(run(jnp.asarray(grads))), in_torch(name, grads)
        assert np.isfinite(ours).all()
        assert np.isfinite(theirs).all() or name in ("adafactor", "sparse_adam")


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry.name)
def test_what_torch_lacks_stays_finite(entry):
    dtypes.huge(Subject(entry.factory(), (4, 3)))


@pytest.mark.parametrize("size", [1e18, 3e20, 1e30])
def test_adafactor_of_huge_parameters_steps_by_no_more_than_their_share(size):
    p, g = jnp.asarray(size * START), jnp.asarray(NORMAL[0], jnp.float32)
    tx = jopt.adafactor(0.01)
    step = np.asarray(tx.update(g, tx.init(p), p)[0])
    assert np.isfinite(step).all()
    assert np.sqrt(np.mean((step / size) ** 2)) < 0.011


def test_sparse_adams_second_moment_is_the_running_mean_of_squares():
    entry = BY_NAME["sparse_adam"]
    p, g = jnp.zeros((4, 3)), jnp.asarray(NORMAL[:2], jnp.float32)
    tx = entry.factory(b2=0.75)
    _, state = tx.update(rows(g[0]), tx.init(p), p)
    _, state = tx.update(rows(g[1]), state, p)
    want = 0.75 * 0.25 * NORMAL[0] ** 2 + 0.25 * NORMAL[1] ** 2
    np.testing.assert_allclose(state["sparse_adam"]["nu"], want, rtol=1e-6)
