"""OneCycle and Cyclic drive the rate and the momentum of real optimizers, ours and torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import jopt
from jopt.interop.torch import momentum_schedule, scheduler

STEPS = 200
DRIVERS = [
    ("OneCycleLR", {"max_lr": 0.05, "total_steps": STEPS}),
    (
        "OneCycleLR",
        {"max_lr": 0.05, "total_steps": STEPS, "three_phase": True, "anneal_strategy": "linear"},
    ),
    ("OneCycleLR", {"max_lr": 0.05, "epochs": 10, "steps_per_epoch": 20, "max_momentum": 0.8}),
    ("CyclicLR", {"base_lr": 0.001, "max_lr": 0.05, "step_size_up": 30}),
    (
        "CyclicLR",
        {
            "base_lr": 0.001,
            "max_lr": 0.05,
            "step_size_up": 13,
            "step_size_down": 7,
            "mode": "triangular2",
        },
    ),
    (
        "CyclicLR",
        {
            "base_lr": 0.001,
            "max_lr": 0.05,
            "step_size_up": 20,
            "mode": "exp_range",
            "gamma": 0.99,
            "base_momentum": 0.5,
        },
    ),
]
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"momentum": 0.5}, "momentum"),
    "nesterov": (torch.optim.SGD, {"momentum": 0.5, "nesterov": True}, "momentum"),
    "adam": (torch.optim.Adam, {}, "b1"),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}, "b1"),
}
MATRIX = np.random.default_rng(0).normal(size=(5, 5)) / 3
START = np.random.default_rng(1).normal(size=5)


def torch_path(kind, kwargs, name, arguments):
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = kind([p], lr=0.1, **kwargs)
    driver = getattr(lr_scheduler, name)(optimizer, **arguments)
    a, path = torch.tensor(MATRIX), []
    for t in range(STEPS):
        optimizer.zero_grad()
        (torch.cos(a @ p).sum() + 0.5 * (p**2).sum()).backward()
        optimizer.step()
        if t < STEPS - 1:
            driver.step()
        path.append(p.detach().numpy().copy())
    return np.array(path)


@pytest.mark.sampled
@pytest.mark.parametrize(("name", "arguments"), DRIVERS)
@pytest.mark.parametrize("which", OPTIMIZERS)
def test_both_numbers_follow_torch_for_200_steps(which, name, arguments, x64):
    kind, kwargs, number = OPTIMIZERS[which]
    driven = {
        "learning_rate": scheduler(name, **arguments),
        number: momentum_schedule(name, **arguments),
    }
    static = {k: v for k, v in kwargs.items() if k != "momentum"}
    tx = getattr(jopt, which.replace("nesterov", "sgd"))(**driven, **static)

    def loss(p):
        return jnp.sum(jnp.cos(MATRIX @ p)) + 0.5 * jnp.sum(p**2)

    def step(carry, _):
        p, state = carry
        updates, state = tx.update(jax.grad(loss)(p), state, p)
        p = jopt.apply_updates(p, updates)
        return (p, state), p

    p = jnp.asarray(START)
    (_, state), path = jax.jit(lambda c: jax.lax.scan(step, c, None, STEPS))((p, tx.init(p)))
    want = torch_path(kind, kwargs, name, arguments)
    assert np.max(np.abs(np.asarray(path) - want)) < 1e-12 * np.max(np.abs(want))
    (numbers,) = jopt.hyperparams(state).values()
    assert float(numbers["default"][number]) == float(driven[number](STEPS))


def test_momentum_is_high_where_the_rate_is_low():
    rate = scheduler("CyclicLR", base_lr=0.0, max_lr=1.0, step_size_up=4)
    momentum = momentum_schedule("CyclicLR", base_lr=0.0, max_lr=1.0, step_size_up=4)
    t = jnp.arange(50)
    np.testing.assert_allclose(momentum(t), 0.9 - 0.1 * rate(t), rtol=1e-6)
