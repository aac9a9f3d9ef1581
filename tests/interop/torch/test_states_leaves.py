"""Which of torch's parameters is which leaf: order, names, groups, turned axes, idle leaves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.optim._muon as torch_muon

import jopt
from jopt import CheckpointError, ConfigError
from jopt.interop.torch import (
    Weight,
    export_optimizer,
    from_state_dict,
    import_optimizer,
    optimizer,
)
from tests.interop.torch.states_runs import (
    Torch,
    distance,
    flat,
    steps_of_jopt,
    through_a_file,
    tree,
)
from tests.optimizers.test_muon import in_full_precision

SHAPES = {"fc/kernel": (4, 3), "fc/bias": (4,), "conv/kernel": (5, 4, 2, 3), "scale": ()}
TORCH_ORDER = list(SHAPES)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def data(shapes=SHAPES, steps=12, seed=0):
    rng = np.random.default_rng(seed)
    params = {k: rng.normal(size=s) for k, s in shapes.items()}
    return params, {k: rng.normal(size=(steps, *s)) for k, s in shapes.items()}


def there_and_back(theirs, tx, grads, names, at=5, until=9, *, axes=None, present=None, back=None):
    """From torch into jopt at one step, back into torch at another; both distances from torch.

    `axes` says how jopt's arrays are turned against torch's; `back` makes torch's optimizer.
    """
    axes = axes or {}

    def turn(arrays, lead=0):  # torch's array is jopt's, transposed
        def one(k, v):
            order = np.argsort(axes.get(k, range(v.ndim - lead)))
            return v.transpose(*range(lead), *(order + lead))

        return {k: one(k, v) for k, v in arrays.items()}

    def unturn(arrays):
        return {k: v.transpose(axes[k]) if k in axes else v for k, v in arrays.items()}

    theirs.run(grads, range(at), present)
    start = tree(turn(theirs.params), jnp.float64)
    state = import_optimizer(tx, start, theirs.saved(), names)
    there = range(at, until)
    now, state = steps_of_jopt(tx, start, state, turn(grads, 1), there, present=present)
    halfway = distance(unturn(flat(now)), theirs.run(grads, there, present).params)
    saved = through_a_file(export_optimizer(tx, now, state, names))
    now = unturn(flat(now))
    fresh = back({k: now[k] for k in theirs.leaves})
    fresh.optimizer.load_state_dict(saved)
    rest = range(until, len(next(iter(grads.values()))))
    end = distance(fresh.run(grads, rest, present).params, theirs.run(grads, rest, present).params)
    return max(halfway, end)


GROUPS = [
    (["fc/bias", "scale"], {"weight_decay": 0.0, "lr": 0.02}),
    (["conv/kernel", "fc/kernel"], {}),
]
GROUPED = {"weight_decay": 0.1, "lr": 0.01}
TX = jopt.adamw(
    0.01,
    weight_decay=0.1,
    groups={"rest": jopt.group("bias|scale", learning_rate=0.5, weight_decay=9)},
)


@pytest.mark.parametrize("named", [False, True])
def test_groups_with_numbers_of_their_own(named, x64):
    params, grads = data()

    def made(params):
        return Torch("AdamW", GROUPED, params, np.float64, GROUPS, named=named)

    names = None if named else [k for row, _ in GROUPS for k in row]
    if named:  # without names in torch's order an export has the default group first
        saved = made(params).run(grads, range(3)).saved()
        state = import_optimizer(TX, tree(params), saved)
        own = jopt.hyperparams(state)["adamw"]
        assert [float(own[g]["learning_rate"]) for g in ("default", "rest")] == [0.01, 0.02]
        assert [float(own[g]["weight_decay"]) for g in ("default", "rest")] == [0.1, 0.0]
        for k, leaf in flat(state["adamw"]["mu"]).items():
            i = names_of(saved).index(k.replace("/", "."))
            np.testing.assert_array_equal(leaf, saved["state"][i]["exp_avg"].numpy())
    else:
        assert there_and_back(made(params), TX, grads, names, back=made) <= 1e-12


def names_of(saved):
    return [n for g in saved["param_groups"] for n in g["param_names"]]


def test_groups_of_an_export_stand_in_the_order_of_their_declaration():
    params = tree(data()[0], jnp.float32)
    saved = export_optimizer(TX, params, TX.init(params))
    assert [g["params"] for g in saved["param_groups"]] == [[0, 1], [2, 3]]
    assert [g["lr"] for g in saved["param_groups"]] == [0.01, 0.5]
    mixed = ["fc/kernel", "fc/bias", "conv/kernel", "scale"]
    with pytest.raises(ConfigError, match=r"group by group(.|\n)*default, rest, default, rest"):
        export_optimizer(TX, params, TX.init(params), mixed)


@pytest.mark.parametrize("present", ["late", "never", "sometimes"])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adagrad", "NAdam", "ASGD", "Rprop"])
def test_leaves_that_sat_out(name, present, x64):
    params, grads = data({"b": (3,), "a": (2, 3), "c": ()})
    here = np.ones((12, 3), bool)
    here[:, 1] = {"late": np.arange(12) >= 7, "never": False, "sometimes": np.arange(12) % 3 > 0}[
        present
    ]
    kwargs = {"lr": 0.05} | ({"momentum": 0.9, "dampening": 0.5} if name == "SGD" else {})

    def made(params):
        return Torch(name, kwargs, params, np.float64)

    torch.set_default_dtype(torch.float64)
    try:
        gap = there_and_back(
            made(params),
            optimizer(name, skips=True, **kwargs),
            grads,
            list(params),
            present=here,
            back=made,
        )
    finally:
        torch.set_default_dtype(torch.float32)
    assert gap <= 1e-12


LINEAR = {"fc/kernel": (1, 0)}
WEIGHTS = {
    "fc/kernel": Weight("fc.weight", (1, 0)),
    "fc/bias": "fc.bias",
    "conv/kernel": Weight("conv.weight", (3, 2, 0, 1)),
    "scale": Weight("scale"),
}


def test_turned_kernels_of_adamw(x64):
    params, grads = data()

    def made(params):
        return Torch("AdamW", {"lr": 0.01, "amsgrad": True}, params, np.float64)

    axes = {"fc/kernel": (1, 0), "conv/kernel": (3, 2, 0, 1)}
    tx = jopt.adamw(0.01, amsgrad=True)
    assert there_and_back(made(params), tx, grads, WEIGHTS, axes=axes, back=made) <= 1e-12


@pytest.mark.parametrize("batch", [(), (2,)])
def test_turned_kernels_of_adafactor_swap_their_factors(batch, x64):
    params, grads = data({"fc/kernel": (*batch, 4, 3), "fc/bias": (4,)})
    turned = (1, 0) if not batch else (0, 2, 1)

    def made(params):
        return Torch("Adafactor", {"lr": 0.05}, params, np.float64)

    names = {"fc/kernel": Weight("fc.weight", turned), "fc/bias": "fc.bias"}
    tx, axes = jopt.adafactor(0.05), {"fc/kernel": turned}
    assert there_and_back(made(params), tx, grads, names, axes=axes, back=made) <= 1e-12


def test_factors_over_other_axes_are_refused():
    params = {"kernel": jnp.ones((3, 3, 4, 5))}
    saved = Torch("Adafactor", {}, {"kernel": np.ones((5, 4, 3, 3))}, np.float32).saved()
    names = {"kernel": Weight("conv.weight", (3, 2, 0, 1))}
    with pytest.raises(
        CheckpointError, match=r"averages over one of the last two axes, and torch's"
    ):
        import_optimizer(jopt.adafactor(), params, saved, names)


@pytest.mark.parametrize("kernels", ["in_out", "out_in"])
def test_muon_knows_how_a_matrix_is_stored(kernels, x64, monkeypatch):
    monkeypatch.setattr(torch_muon, "_zeropower_via_newtonschulz", in_full_precision)
    params, grads = data({"tall": (6, 3), "wide": (3, 6)})
    kwargs = {"lr": 0.05, "adjust_lr_fn": "original"}

    def made(params):
        return Torch("Muon", kwargs, params, np.float64)

    axes = (1, 0) if kernels == "in_out" else None
    names = {k: Weight(k, axes) for k in params}
    tx = jopt.muon(**{**optimizer("Muon", **kwargs).config, "kernels": kernels})
    turned = {} if axes is None else dict.fromkeys(params, axes)
    theirs, back = made(params), made
    theirs.run(grads, range(5))
    start = tree({k: v.transpose(axes) if axes else v for k, v in theirs.params.items()})
    state = import_optimizer(tx, start, theirs.saved(), names)
    precise = jopt.muon(**{**tx.config, "ns_dtype": "float64"})
    turned_grads = {k: np.swapaxes(v, 1, 2) if axes else v for k, v in grads.items()}
    now, state = steps_of_jopt(precise, start, state, turned_grads, range(5, 9))
    arrays = {k: v.transpose(turned[k]) if turned else v for k, v in flat(now).items()}
    assert distance(arrays, theirs.run(grads, range(5, 9)).params) <= 1e-12
    fresh = back({k: arrays[k] for k in params})
    fresh.optimizer.load_state_dict(through_a_file(export_optimizer(tx, now, state, names)))
    assert (
        distance(fresh.run(grads, range(9, 12)).params, theirs.run(grads, range(9, 12)).params)
        <= 1e-12
    )
    other = jopt.muon(kernels="out_in" if kernels == "in_out" else "in_out")
    with pytest.raises(CheckpointError, match=f"which is kernels='{kernels}'"):
        import_optimizer(other, start, theirs.saved(), names)


def test_a_turned_square_kernel_moves_as_in_torch_in_bfloat16_too():
    # X·Xᵀ and Xᵀ·X round apart: only a square matrix does not say which of them torch takes.
    params, grads = data({"square": (5, 5)})
    theirs = Torch("Muon", {"lr": 0.05}, params, np.float32).run(grads, range(3))
    names, start = {"square": Weight("square", (1, 0))}, {"square": theirs.params["square"].T}
    tx = jopt.muon(0.05, kernels="in_out")
    state = import_optimizer(tx, tree(start), theirs.saved(), names)
    turned = {"square": np.swapaxes(grads["square"], 1, 2)}
    now, _ = steps_of_jopt(tx, tree(start), state, turned, range(3, 9))
    ours = {"square": flat(now)["square"].T}
    assert distance(ours, theirs.run(grads, range(3, 9)).params) <= 1e-5


def test_ids_that_are_names():
    """As torch.distributed.checkpoint writes them."""
    saved = Torch("Adam", {}, data()[0], np.float32, named=True).run(data()[1], range(2)).saved()
    [group] = saved["param_groups"]
    by_name = dict(zip(group["params"], group.pop("param_names"), strict=True))
    saved["state"] = {by_name[i]: v for i, v in saved["state"].items()}
    group["params"] = [by_name[i] for i in group["params"]]
    params = tree(data()[0], jnp.float32)
    mu = import_optimizer(jopt.adam(), params, saved)["adam"]["mu"]["fc"]["bias"]
    np.testing.assert_array_equal(mu, saved["state"]["fc.bias"]["exp_avg"].numpy())


def test_frozen_leaves_may_be_missing():
    params, grads = data()
    tx = jopt.adam(groups={"still": jopt.group("conv", freeze=True)})
    live = {k: v for k, v in params.items() if k != "conv/kernel"}
    saved = Torch("Adam", {}, live, np.float32).run(grads, range(2)).saved()
    state = import_optimizer(tx, tree(params, jnp.float32), saved, list(live))
    assert set(state["adam"]["mu"]) == {"fc", "scale"}
    back = export_optimizer(tx, tree(params, jnp.float32), state, list(live))
    assert back["param_groups"][0]["params"] == [0, 1, 2]
    whole = Torch("Adam", {}, params, np.float32).run(grads, range(2)).saved()
    again = import_optimizer(tx, tree(params, jnp.float32), whole, list(params))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, again))


def test_the_transform_read_off_the_file(x64):
    params, grads = data()
    kwargs = {"lr": 0.02, "momentum": 0.9, "nesterov": True}
    groups = [(["fc/bias", "scale"], {"weight_decay": 0.5}), (["conv/kernel", "fc/kernel"], {})]
    theirs = Torch("SGD", kwargs, params, np.float64, groups).run(grads, range(4))
    names = [k for row, _ in groups for k in row]
    start = tree(theirs.params, jnp.float64)
    tx, state = from_state_dict("SGD", theirs.saved(), start, names)
    assert set(tx.config["groups"]) == {"group_1"}
    now, _ = steps_of_jopt(tx, start, state, grads, range(4, 12))
    assert distance(flat(now), theirs.run(grads, range(4, 12)).params) <= 1e-12
