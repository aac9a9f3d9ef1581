"""Leaves that sit out, zero gradients and edited learning rates, step by step beside torch.

Torch makes a leaf's state at the first step that it takes part in, and some of it remembers the
learning rate: ASGD's step size, Rprop's step sizes, NAdam's product of momenta.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.core.spec import REGISTRY
from jopt.interop.torch import optimizer
from tests.catalog import CATALOG
from tests.oracles.torch_live import scalars_in

SHAPES = {"early": (3,), "late": (2, 2), "idle": (2,), "matrix": (3, 2)}
LIVE = [entry for entry in CATALOG if entry.torch and REGISTRY[entry.name].sparse == "no"]


def gradient(rng, name, t):
    """`late` joins at step 3, `early` sits out steps 4 and 5; step 6 is zero for all."""
    if (name == "late" and t < 3) or (name == "early" and t in (4, 5)) or name == "idle":
        return None
    return rng.normal(size=SHAPES[name]) * (t != 6)


def rate(t):
    """Edited before the first step, and twice on the way."""
    return 0.05 if t < 2 else 0.2 if t < 7 else 0.03


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("entry", LIVE, ids=lambda e: e.name)
def test_edits_and_missing_gradients_act_when_torchs_do(entry):
    rng = np.random.default_rng(0)
    shapes = {k: s for k, s in SHAPES.items() if len(s) in entry.ndims}
    start = {k: rng.normal(size=s) for k, s in shapes.items()}
    grads = [{k: gradient(rng, k, t) for k in shapes} for t in range(10)]
    name, kwargs = REGISTRY[entry.name].torch, entry.torch[-1]

    with scalars_in(np.float64):
        theirs = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
        opt = getattr(torch.optim, name)(list(theirs.values()), **kwargs)
        for t, g in enumerate(grads):
            opt.param_groups[0]["lr"] = rate(t)
            for k, p in theirs.items():
                p.grad = None if g[k] is None else torch.tensor(g[k])
            opt.step()

    tx = optimizer(name, skips=True, **kwargs)
    params = jax.tree.map(jnp.asarray, start)
    state = tx.init(params)
    update = jax.jit(tx.update)
    for t, g in enumerate(grads):
        state = jopt.set_hyperparams(state, learning_rate=rate(t))
        updates, state = update(g, state, params)
        params = jopt.apply_updates(params, updates)

    for k, p in theirs.items():
        p = p.detach().numpy()
        assert np.max(np.abs(p - params[k])) <= entry.tol64 * np.max(np.abs(p))
