"""Layers that torch has one by one are one leaf here: parameters and state go over and back."""

import jax
import numpy as np
import pytest
import torch

import jopt
from jopt.interop.torch import (
    Weight,
    export_optimizer,
    export_params,
    flax_weights,
    import_optimizer,
    import_params,
)

LAYERS = 3
RENAME = {r"^block\.": "layers.{}."}


def model(seed=0):
    torch.manual_seed(seed)
    layer = [torch.nn.Linear(4, 6) for _ in range(LAYERS)]
    return torch.nn.ModuleDict(
        {"layers": torch.nn.ModuleList(layer), "head": torch.nn.Linear(6, 2)}
    )


def shapes():
    leaf = jax.ShapeDtypeStruct
    block = {"kernel": leaf((LAYERS, 4, 6), np.float32), "bias": leaf((LAYERS, 6), np.float32)}
    head = {"kernel": leaf((6, 2), np.float32), "bias": leaf((2,), np.float32)}
    return {"block": block, "head": head}


def weights(net):
    return flax_weights(shapes(), rename=RENAME, order=net.state_dict())


def trained(net, made, steps=3):
    optimizer = made([*net.parameters()])
    rng = np.random.default_rng(0)
    for _ in range(steps):
        for p in net.parameters():
            p.grad = torch.tensor(rng.normal(size=p.shape), dtype=p.dtype)
        optimizer.step()
    return optimizer


def gradients(net, seed):
    rng = np.random.default_rng(seed)
    named = {k: rng.normal(size=p.shape).astype(np.float32) for k, p in net.named_parameters()}
    return named, import_params(shapes(), named, weights(net))


def test_parameters_go_over_and_back():
    net = model()
    names = weights(net)
    assert names["block/kernel"] == Weight("layers.{}.weight", (1, 0))
    params = import_params(shapes(), net.state_dict(), names)
    assert params["block"]["kernel"].shape == (LAYERS, 4, 6)
    np.testing.assert_array_equal(
        params["block"]["kernel"][1], net["layers"][1].weight.detach().numpy().T
    )
    back = export_params(params, names)
    assert sorted(back) == sorted(net.state_dict())
    assert all(torch.equal(x, back[k]) for k, x in net.state_dict().items())
    with pytest.raises(jopt.CheckpointError, match=r"missing     layers\.2\.bias"):
        import_params(shapes(), {k: x for k, x in back.items() if k != "layers.2.bias"}, names)


CASES = {
    "AdamW": (lambda p: torch.optim.AdamW(p, 1e-2), jopt.adamw(1e-2)),
    "Adafactor": (
        lambda p: torch.optim.Adafactor(p, 1e-2),
        jopt.adafactor(1e-2, axes={"^block/": "layer ..."}),
    ),
    "SGD": (lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9), jopt.sgd(1e-2, momentum=0.9)),
}


@pytest.mark.parametrize(
    "case", ["AdamW", "Adafactor", pytest.param("SGD", marks=pytest.mark.slow)]
)
def test_a_run_goes_on_in_one_leaf_and_back(case):
    made, tx = CASES[case]
    net = model()
    optimizer = trained(net, made)
    names = weights(net)
    params = import_params(shapes(), net.state_dict(), names)
    state = import_optimizer(tx, params, optimizer.state_dict(), names)
    back = export_optimizer(tx, params, state, names)
    for i, entry in optimizer.state_dict()["state"].items():
        assert entry.keys() == back["state"][i].keys()
        for k, x in entry.items():
            if x is not None:
                np.testing.assert_array_equal(np.asarray(x), np.asarray(back["state"][i][k]))
    named, grads = gradients(net, 7)
    for k, p in net.named_parameters():
        p.grad = torch.tensor(named[k])
    optimizer.step()
    updates, _ = jax.jit(tx.update)(grads, state, params)
    moved = export_params(jopt.apply_updates(params, updates), names)
    for k, x in net.state_dict().items():
        np.testing.assert_allclose(moved[k], x, rtol=2e-6, atol=2e-7)


def test_what_the_layers_have_apart_and_the_leaf_has_once():
    net = model()
    optimizer = trained(net, lambda p: torch.optim.AdamW(p, 1e-2))
    names, saved = weights(net), optimizer.state_dict()
    params = import_params(shapes(), net.state_dict(), names)
    with pytest.raises(jopt.ConfigError, match="does not know torch's order"):
        import_optimizer(jopt.adamw(1e-2), params, saved, dict(names))
    saved["state"][0]["step"] = torch.tensor(9.0)
    with pytest.raises(jopt.CheckpointError, match="differ in step") as error:
        import_optimizer(jopt.adamw(1e-2), params, saved, names)
    assert "block/kernel" in str(error.value)
    with pytest.raises(jopt.ConfigError, match="other tensors here"):
        import_optimizer(jopt.adafactor(1e-2), params, saved, names)


def test_a_round_in_the_middle_goes_over():
    net = model()
    names = weights(net)
    params = import_params(shapes(), net.state_dict(), names)
    tx = jopt.accumulate(jopt.sgd(0.1), every=4)
    _, state = tx.update(gradients(net, 1)[1], tx.init(params), params)
    saved = export_optimizer(tx, params, state, names, mid_round=True)
    assert len(saved["grads"]) == 2 * LAYERS + 2
    again = import_optimizer(tx, params, saved, names)
    np.testing.assert_array_equal(
        again["accumulate"]["sum"]["block"]["kernel"], state["accumulate"]["sum"]["block"]["kernel"]
    )


def test_layers_too_small_to_be_compressed_of_a_leaf_that_is_large_enough():
    params = {"w": np.ones((3, 50, 50), np.float32)}
    tx = jopt.adamw(1e-2, state_dtype="bfloat16")
    rng = np.random.default_rng(0)
    moments = {k: rng.random((50, 50), np.float32) for k in ("exp_avg", "exp_avg_sq")}
    plain = export_optimizer(jopt.adamw(1e-2), params, jopt.adamw(1e-2).init(params))
    saved = {
        "state": {i: {"step": 3.0, **moments} for i in range(3)},
        "param_groups": [{**plain["param_groups"][0], "params": [0, 1, 2]}],
    }
    names = {"w": Weight("layers.{}.w", (1, 0))}
    saved["param_groups"][0]["param_names"] = [f"layers.{i}.w" for i in range(3)]
    state = import_optimizer(tx, params, saved, names)
    assert state["adamw"]["mu"]["w"].dtype == "bfloat16"
    names = flax_weights(params, given=names, order=saved["param_groups"][0]["param_names"])
    back = export_optimizer(tx, params, state, names)
    for k, x in moments.items():
        np.testing.assert_allclose(back["state"][2][k], x, rtol=2**-7)  # up or down


def test_averages_of_layers_go_over_and_back():
    net = model()
    names, params = weights(net), import_params(shapes(), net.state_dict(), weights(net))
    tx = jopt.schedule_free(jopt.sgd(0.1), 0.1)
    updates, state = tx.update(gradients(net, 1)[1], tx.init(params), params)
    moved = jopt.apply_updates(params, updates)
    saved = jopt.interop.torch.export_schedule_free(tx, moved, state, names)
    assert len(saved["state"]) == 2 * LAYERS + 2
    y, again = jopt.interop.torch.import_schedule_free(tx, moved, saved, names)
    jax.tree.map(np.testing.assert_array_equal, (y, again), (moved, state))
