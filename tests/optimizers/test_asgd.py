"""The average that ASGD keeps, which no parameter shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt

NUMBERS = {"lambd": 0.01, "alpha": 0.75, "t0": 3.0}


@pytest.fixture
def wide():
    """torch keeps η and the weight in its default dtype."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(usual)


@pytest.mark.usefixtures("x64", "wide")
def test_the_average_is_torchs_after_it_began():
    start = np.linspace(-1.0, 1.0, 5)
    gradients = np.cos(np.arange(40.0)).reshape(8, 5)
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.ASGD([theirs], lr=0.1, **NUMBERS)
    tx, params = jopt.asgd(0.1, **NUMBERS), {"w": jnp.asarray(start)}
    state, update = tx.init(params), jax.jit(tx.update)
    for g in gradients:
        theirs.grad = torch.tensor(g)
        optimizer.step()
        updates, state = update({"w": jnp.asarray(g)}, state, params)
        params = jopt.apply_updates(params, updates)
        held = optimizer.state[theirs]
        for slot, key in (("average", "ax"), ("eta", "eta"), ("weight", "mu")):
            found, wanted = state["asgd"][slot]["w"], held[key].detach().numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0, err_msg=slot)
    assert float(state["asgd"]["weight"]["w"]) == 1 / 5
