"""What torch's schedulers do, step by step, and how far jopt is from it."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from jopt.interop.torch import scheduler


def build(optimizer, name, kwargs):
    """Torch's scheduler, children given as `(name, kwargs)` included."""
    kwargs = dict(kwargs)
    if "schedulers" in kwargs:
        kwargs["schedulers"] = [build(optimizer, *child) for child in kwargs["schedulers"]]
    if name == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(**kwargs)
    return (SWALR if name == "SWALR" else getattr(lr_scheduler, name))(optimizer, **kwargs)


def sgd(lr):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=lr, momentum=0.5)


def torch_rates(name, kwargs, steps, lr=0.1):
    """The learning rate of each of `steps` steps of an optimizer that torch's scheduler drives."""
    optimizer = sgd(lr)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the optimizer itself never steps
        driver = build(optimizer, name, kwargs)
        for t in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            if t < steps - 1:
                driver.step()
    return np.array(rates)


def values(schedule, steps):
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(steps)))


def distance(got, want, floor=1e-5):
    """The largest |got − want|, relative to |want|, but not to less than `floor` of the largest.

    Near the foot of a cosine torch takes 1 + cos from two numbers that nearly cancel: its own
    last digits are gone there, and a share of the foot would measure them.
    """
    size = np.maximum(np.abs(want), floor * np.max(np.abs(want)))
    return float(np.max(np.abs(got - want) / np.maximum(size, 1e-300)))


def compare(name, kwargs, length, lr=0.1, floor=1e-5, **ours):
    """How far jopt's schedule is from torch's over `length` steps; `ours` are for jopt alone."""
    want = torch_rates(name, kwargs, length, lr)
    return distance(values(scheduler(name, lr, **{**kwargs, **ours}), length), want, floor)
