"""Complex parameters go downhill along the conjugate of jax's gradient, as in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt

START = np.array([1 + 1j, -0.5 + 2j, 0.3 - 1.5j], np.complex64)
TARGET = np.array([0.2 - 1j, 1 + 0.5j, -1j], np.complex64)


def loss(xp, z, target):
    return (xp.abs(z - target) ** 2).sum() + (z * z * 0.25).sum().real


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (jopt.sgd(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (jopt.adam(0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
    ],
    ids=["sgd", "adam"],
)
def test_the_conjugate_gradient_takes_torchs_steps(ours, theirs):
    z = torch.tensor(START, requires_grad=True)
    optimizer = theirs([z])
    for _ in range(5):
        optimizer.zero_grad()
        loss(torch, z, torch.tensor(TARGET)).backward()
        optimizer.step()

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: loss(jnp, p["z"], jnp.asarray(TARGET)))(params)
        updates, state = ours.update(jax.tree.map(jnp.conj, grads), state, params)
        return jopt.apply_updates(params, updates), state

    params = {"z": jnp.asarray(START)}
    state = ours.init(params)
    for _ in range(5):
        params, state = step(params, state)
    np.testing.assert_allclose(params["z"], z.detach().numpy(), rtol=2e-5, atol=1e-6)
