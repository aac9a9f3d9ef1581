"""Groups of older torch, which lack keys: what torch takes, jopt takes, and for the same."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.core.spec import REGISTRY
from jopt.interop.torch import from_state_dict, import_optimizer, optimizer
from jopt.interop.torch.build import EXECUTION

CLASSES = sorted(spec.torch for spec in REGISTRY.values() if spec.torch)


def fresh(name):
    p = torch.nn.Parameter(torch.ones(2, 3))
    return p, getattr(torch.optim, name)([p])


def step(name, p, o):
    def closure():
        p.grad = None
        loss = (p * p).sum()
        loss.backward()
        return loss

    closure()
    if name == "SparseAdam":
        p.grad = p.grad.to_sparse(1)
    o.step(*([closure] if name == "LBFGS" else []))


def as_torch_takes_it(name, saved):
    """The group as torch has it after `load_state_dict`; `None` if it cannot go on."""
    p, o = fresh(name)
    try:
        o.load_state_dict(copy.deepcopy(saved))
        step(name, p, o)
    except (KeyError, TypeError):
        return None
    return o.state_dict()["param_groups"][0]


@pytest.mark.parametrize("name", CLASSES)
def test_a_group_without_a_key_that_torch_adds(name):
    p, o = fresh(name)
    step(name, p, o)
    whole, params = o.state_dict(), {"w": jnp.asarray(p.detach().numpy())}
    tx, lacking = optimizer(name), 0
    want = import_optimizer(tx, params, whole)
    keys = [key for key in whole["param_groups"][0] if key != "params"]
    rows = [(key,) for key in keys]
    # All that torch adds, as in files of its first versions.
    rows.append([k for k in keys if as_torch_takes_it(name, without(whole, [k])) is not None])
    for row in rows:
        old = without(whole, row)
        if (group := as_torch_takes_it(name, old)) is None:
            continue
        lacking += 1
        for key in set(row) & set(group) - EXECUTION:
            assert group[key] == whole["param_groups"][0][key]
        got = import_optimizer(tx, params, old)
        jax.tree.map(np.testing.assert_array_equal, got, want)
        made, got = from_state_dict(name, old, params)
        assert made == from_state_dict(name, whole, params)[0]
    assert lacking or name in ("LBFGS", "Muon")  # torch takes these as they are alone


def without(saved, keys):
    old = copy.deepcopy(saved)
    for key in keys:
        del old["param_groups"][0][key]
    return old


def test_a_flag_that_is_on_is_never_lost():
    p = torch.nn.Parameter(torch.ones(2, 3))
    o = torch.optim.Adam([p], amsgrad=True, maximize=True)
    step("Adam", p, o)
    params = {"w": jnp.ones((2, 3))}
    old = without(o.state_dict(), ["decoupled_weight_decay", "foreach", "fused", "capturable"])
    assert from_state_dict("Adam", old, params)[0] == jopt.adam(amsgrad=True, maximize=True)
    # Without its flag the largest moments have no owner.
    bent = without(o.state_dict(), ["amsgrad"])
    with pytest.raises(jopt.CheckpointError, match="max_exp_avg_sq is unexpected"):
        from_state_dict("Adam", bent, params)


def test_what_torch_does_not_add_is_still_missed():
    _, o = fresh("AdamW")
    for key in ("lr", "betas", "eps", "weight_decay"):
        bent = without(o.state_dict(), [key])
        with pytest.raises(jopt.CheckpointError, match=r"group 0 is none of torch\.optim\.AdamW"):
            import_optimizer(jopt.adamw(), {"w": jnp.ones((2, 3))}, bent)
