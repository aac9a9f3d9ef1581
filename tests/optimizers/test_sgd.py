"""SGD with a momentum that is 0 for some leaves, or for some time: the buffer rests."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt


def in_torch(momenta, grads, groups=False, **kwargs):
    a, b = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    first = {"params": [a], "momentum": momenta[0]}
    opt = torch.optim.SGD([first, {"params": [b], "momentum": 0.0}] if groups else [a, b], **kwargs)
    for m, g in zip(momenta, grads, strict=True):
        for group in opt.param_groups[:1] if groups else opt.param_groups:
            group["momentum"] = m
        a.grad, b.grad = torch.tensor(g), torch.tensor(-g)
        opt.step()
    return a.detach().numpy(), b.detach().numpy()


def in_jopt(momenta, grads, tx, group="default"):
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = tx.init(params)
    for m, g in zip(momenta, grads, strict=True):
        state = jopt.set_hyperparams(state, group=group, momentum=m)
        updates, state = tx.update({"a": jnp.asarray(g), "b": -jnp.asarray(g)}, state, params)
        params = jopt.apply_updates(params, updates)
    return params["a"], params["b"]


GRADS = np.random.default_rng(0).normal(size=(8, 2))
MOMENTA = (0.9, 0.9, 0.0, 0.0, 0.9, 0.5, 0.0, 0.9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_switched_to_zero_and_back(dampening):
    tx = jopt.sgd(0.1, 0.9, dampening=dampening, weight_decay=0.1)
    theirs = in_torch(MOMENTA, GRADS, lr=0.1, dampening=dampening, weight_decay=0.1)
    np.testing.assert_allclose(in_jopt(MOMENTA, GRADS, tx), theirs, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_started_at_zero():
    momenta = (0.0, 0.0, 0.9, 0.9)
    theirs = in_torch(momenta, GRADS[:4], lr=0.1)
    np.testing.assert_allclose(in_jopt(momenta, GRADS[:4], jopt.sgd(0.1, 0.9)), theirs, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_zero_for_a_group(dampening):
    still = jopt.sgd(0.1, 0.9, dampening=dampening, groups={"b": jopt.group("b", momentum=0.0)})
    own = jopt.group("a", momentum=0.9)
    theirs = in_torch((0.9,) * 8, GRADS, groups=True, lr=0.1, dampening=dampening)
    ours = in_jopt((0.9,) * 8, GRADS, still)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    if not dampening:
        only = jopt.sgd(0.1, groups={"a": own})
        np.testing.assert_allclose(in_jopt((0.9,) * 8, GRADS, only, "a"), theirs, rtol=1e-12)
