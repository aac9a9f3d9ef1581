"""The file of a short torch run, and edits of it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from tests.interop.torch.states_runs import Torch, tree

PARAMS = {"b": np.ones(2), "w": np.arange(6.0).reshape(2, 3)}
GRADS = {k: np.random.default_rng(0).normal(size=(9, *v.shape)) for k, v in PARAMS.items()}
START = tree(PARAMS, jnp.float32)


def saved(name="AdamW", steps=3, dtype=np.float32, groups=(), named=False, **kwargs):
    run = Torch(name, kwargs, PARAMS, dtype, groups, named=named)
    return run.run(GRADS, range(steps)).saved()


def changed(edit, **kwargs):
    state_dict = saved(**kwargs)
    edit(state_dict)
    return state_dict


def entry(i, **new):
    return lambda sd: sd["state"][i].update(new)


def group(**new):
    return lambda sd: sd["param_groups"][0].update(new)
