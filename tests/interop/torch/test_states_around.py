"""Dtypes, copies and places of what is imported, and what stands around the optimizer."""

from __future__ import annotations

import copy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt import CheckpointError, ConfigError
from jopt.interop.torch import (
    export_optimizer,
    from_state_dict,
    import_optimizer,
    optimizer,
)
from tests.interop.torch.states_edited import GRADS, PARAMS, START, saved
from tests.interop.torch.states_runs import Torch, flat, steps_of_jopt, through_a_file


def test_numpy_arrays_do_without_torch():
    code = """
import sys, numpy as np, jax.numpy as jnp
from jopt.interop.torch import import_optimizer, optimizer
group = {"lr": 0.1, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False,
         "params": [0]}
moments = {"step": 7, "exp_avg": np.ones(2, np.float32), "exp_avg_sq": np.ones(2, ">f4")}
state = {"state": {0: moments}, "param_groups": [group]}
import_optimizer(optimizer("AdamW"), jnp.zeros(2), state)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bfloat16_widens_exactly_and_narrows_as_torch_holds_it():
    run = Torch("AdamW", {}, PARAMS, torch.bfloat16).run(GRADS, range(4))
    params = {k: jnp.asarray(v, jnp.bfloat16) for k, v in run.params.items()}
    tx, file = optimizer("AdamW"), run.saved()
    state = import_optimizer(tx, params, file)
    for n, k in enumerate(PARAMS):
        mu = state["adamw"]["mu"][k]
        assert mu.dtype == jnp.float32
        np.testing.assert_array_equal(mu, file["state"][n]["exp_avg"].float().numpy())
    back = through_a_file(export_optimizer(tx, params, state))
    for n in range(2):
        for key, value in file["state"][n].items():
            assert back["state"][n][key].dtype == value.dtype
            assert torch.equal(back["state"][n][key], value)


def test_what_float16_cannot_hold_is_not_made_infinite():
    params = {"w": jnp.ones(2, jnp.float16)}
    tx = jopt.adam()
    state = tx.init(params)
    state["adam"]["nu"]["w"] = jnp.full(2, 1e6)
    state["adam"]["count"] = jnp.int32(1)
    with pytest.raises(CheckpointError, match="exp_avg_sq is beyond float16"):
        export_optimizer(tx, params, state)


def test_a_cast_is_asked_for():
    file = saved(dtype=np.float64)
    state = import_optimizer(optimizer("AdamW"), START, file, cast=True)
    want = file["state"][1]["exp_avg"].numpy().astype(np.float32)
    np.testing.assert_array_equal(state["adamw"]["mu"]["w"], want)


def test_complex_and_empty_leaves(x64):
    rng = np.random.default_rng(1)
    params = {"c": rng.normal(size=3) + 1j, "e": np.zeros((0, 2)), "s": np.ones(())}
    grads = {
        k: rng.normal(size=(8, *v.shape)) * (1 + 1j if k == "c" else 1) for k, v in params.items()
    }
    leaves = {k: torch.tensor(v).requires_grad_() for k, v in params.items()}
    theirs = torch.optim.RMSprop(list(leaves.values()), lr=0.01, momentum=0.9, centered=True)

    def run(steps):
        for t in steps:
            for k, leaf in leaves.items():
                leaf.grad = torch.tensor(grads[k][t], dtype=leaf.dtype)
            theirs.step()

    run(range(4))
    start = {k: jnp.asarray(v.detach().numpy()) for k, v in leaves.items()}
    tx, state = from_state_dict("RMSprop", theirs.state_dict(), start)
    run(range(4, 8))
    now, state = steps_of_jopt(tx, start, state, grads, range(4, 8))
    for k, v in flat(now).items():
        np.testing.assert_allclose(v, leaves[k].detach().numpy(), rtol=1e-12, atol=0)
    back = export_optimizer(tx, now, state)["state"]
    for n, row in theirs.state_dict()["state"].items():
        for key, value in row.items():
            assert back[n][key].dtype == value.dtype or key == "step"
            np.testing.assert_allclose(back[n][key], value, rtol=1e-11, atol=1e-300)


def test_nothing_is_shared_and_nothing_changed():
    file = saved()
    before = copy.deepcopy(file)
    tx = optimizer("AdamW")
    state = import_optimizer(tx, START, file)
    kept = jax.tree.map(np.array, state)
    for row in file["state"].values():
        for value in row.values():
            value.add_(1.0)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), state, kept))
    back = export_optimizer(tx, START, state)
    for n, row in before["state"].items():
        for key, value in row.items():
            assert torch.equal(back["state"][n][key], value)
            back["state"][n][key].add_(1.0)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), state, kept))


def test_slots_lie_where_the_parameters_do():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    params = jax.device_put(START, spec)
    tx = optimizer("AdamW")
    state = import_optimizer(tx, params, saved())
    for ours, fresh in zip(jax.tree.leaves(state), jax.tree.leaves(tx.init(params)), strict=True):
        assert ours.sharding == fresh.sharding
        assert ours.committed == fresh.committed
    assert state["adamw"]["mu"]["w"].sharding == spec


AROUND = {
    "chain": lambda tx: jopt.chain(jopt.clip_by_global_norm(1.0), tx),
    "accumulate": lambda tx: jopt.accumulate(tx, every=2),
    "ema": lambda tx: jopt.ema(jopt.skip_nonfinite(tx)),
}


@pytest.mark.parametrize("around", AROUND)
def test_wrappers_and_chains_go_on_fresh_around_it(around):
    tx = AROUND[around](optimizer("AdamW"))
    fresh, state = tx.init(START), import_optimizer(tx, START, saved())
    assert jax.tree.structure(fresh) == jax.tree.structure(state)
    alone = import_optimizer(optimizer("AdamW"), START, saved())["adamw"]
    differs = [
        jax.tree_util.keystr(k)
        for (k, a), b in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(fresh), strict=True)
        if not (a == b).all()
    ]
    assert differs
    assert all("adamw" in k for k in differs)
    back = export_optimizer(tx, START, state)
    want = export_optimizer(optimizer("AdamW"), START, {"adamw": alone})
    assert str(back) == str(want)


def test_several_optimizers_have_a_state_dict_each():
    tx = jopt.recipes.muon_adamw(kernels="out_in", b2=0.999, eps=1e-8, weight_decay=0.1)
    with pytest.raises(CheckpointError, match="2 parts of the transform are optimizers") as error:
        import_optimizer(tx, START, saved())
    assert "{'route/muon': ..., 'route/adamw': ...}" in str(error.value)
    muon = torch.optim.Muon([w := torch.nn.Parameter(torch.ones(2, 3))], lr=0.3)
    w.grad = torch.ones(2, 3)
    muon.step()
    only_b = (
        Torch("AdamW", {"lr": 0.2}, {"b": PARAMS["b"]}, np.float32).run(GRADS, range(3)).saved()
    )
    files = {"route/muon": muon.state_dict(), "route/adamw": only_b}
    state = import_optimizer(tx, START, files)
    numbers = jopt.hyperparams(state)
    assert float(numbers["route/muon"]["default"]["learning_rate"]) == np.float32(0.3)
    assert int(state["route"]["inner"]["adamw"]["count"]) == 3
    back = export_optimizer(tx, START, state)
    assert set(back) == set(files)
    assert torch.equal(back["route/adamw"]["state"][0]["exp_avg"], only_b["state"][0]["exp_avg"])
    assert torch.equal(
        back["route/muon"]["state"][0]["momentum_buffer"],
        files["route/muon"]["state"][0]["momentum_buffer"],
    )


def test_what_torch_has_nothing_of():
    with pytest.raises(ConfigError, match="torch has no optimizer that is part of this transform"):
        import_optimizer(jopt.clip_by_global_norm(1.0), START, saved())
    tx = jopt.muon(ns_dtype="float32")
    params = {"w": jnp.ones((2, 2))}
    with pytest.raises(CheckpointError, match="ns_dtype is 'float32'; torch does as 'bfloat16'"):
        export_optimizer(tx, params, tx.init(params))
    tx = jopt.lbfgs(min_curvature=0.0)
    with pytest.raises(CheckpointError, match=r"min_curvature of group 'default' is 0.0"):
        export_optimizer(tx, params, tx.init(params))
    with pytest.raises(CheckpointError, match="the state is not of this transform"):
        export_optimizer(jopt.adam(), params, jopt.sgd().init(params))
    with pytest.raises(ConfigError, match="count= is a number of steps"):
        import_optimizer(jopt.adam(), START, saved("Adam"), count=-1)


def test_a_group_of_an_export_is_torch_s_own():
    for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adafactor", "Rprop", "LBFGS", "SparseAdam"):
        tx = optimizer(name)
        [ours] = export_optimizer(tx, START, tx.init(START))["param_groups"]
        [theirs] = Torch(name, {}, PARAMS, np.float32).saved()["param_groups"]
        assert ours == theirs
