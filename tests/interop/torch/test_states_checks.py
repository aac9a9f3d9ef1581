"""What an import refuses, and what it takes from a file."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest
import torch

import jopt
from jopt import CheckpointError, ConfigError
from jopt.interop.torch import (
    Weight,
    export_optimizer,
    import_optimizer,
    optimizer,
)
from tests.interop.torch.states_edited import START, changed, entry, group, saved

REFUSED = {
    "shape": (entry(1, exp_avg=torch.zeros(3, 2)),
              r"w \(torch's parameter 1\): exp_avg: shape: expected \(2, 3\), found \(3, 2\)"),
    "no tensor": (entry(0, exp_avg="x"), "exp_avg: expected an array, found str"),
    "sparse": (entry(0, exp_avg=torch.ones(2).to_sparse()),
        "expected an array, found Tensor without dense numbers"),
    "integers": (entry(0, exp_avg=torch.ones(2, dtype=torch.int32)),
        "dtype: expected float32, found int32"),
    "complex": (entry(0, exp_avg=torch.ones(2, dtype=torch.complex64)),
        "dtype: expected float32, found complex64"),
    "too wide": (entry(0, exp_avg=torch.ones(2, dtype=torch.float64)),
        "dtype: expected float32, found float64"),
    "step": (entry(0, step=torch.tensor(float("nan"))),
        "step: expected a whole number from 0, found nan"),
    "half a step": (entry(0, step=2.5), "step: expected a whole number from 0, found 2.5"),
    "steps": (entry(0, step=torch.ones(2)), r"found an array of shape \(2,\)"),
    "amsgrad": (group(amsgrad=True), "group 0: amsgrad is True, amsgrad of adamw False"),
    "slot gone": (lambda sd: sd["state"][1].pop("exp_avg"), "exp_avg is missing"),
    "slot new": (entry(1, max_exp_avg_sq=torch.ones(2, 3)), "max_exp_avg_sq is unexpected"),
    "orphan": (lambda sd: sd["state"].update({7: {}}), "state for 7, which is in no group"),
    "twice": (group(params=[0, 0]), "two parameters have the id 0"),
    "range": (group(lr=-5.0), r"learning_rate is out of range: expected \[0, inf\), found -5.0"),
    "no dict": (lambda sd: sd["state"].update({0: 3}), "its state is no dict but a int"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused(case):
    edit, line = REFUSED[case]
    with pytest.raises(CheckpointError, match=line):
        import_optimizer(optimizer("AdamW"), START, changed(edit))


def test_all_differences_are_listed_at_once():
    def edit(sd):
        entry(0, exp_avg=torch.zeros(3), step=-1)(sd)
        entry(1, exp_avg_sq=torch.zeros(1))(sd)
        group(amsgrad=True, eps=-1.0)(sd)

    with pytest.raises(CheckpointError) as error:
        import_optimizer(optimizer("AdamW"), START, changed(edit))
    assert str(error.value) == (
        "import_optimizer: the state of torch.optim.AdamW does not fit adamw\n"
        "  group 0: amsgrad is True, amsgrad of adamw False\n"
        "  b (torch's parameter 0): step: expected a whole number from 0, found -1\n"
        "  b (torch's parameter 0): exp_avg: shape: expected (2,), found (3,)\n"
        "  w (torch's parameter 1): exp_avg_sq: shape: expected (2, 3), found (1,)\n"
        "  eps is out of range: expected [0, inf), found -1.0\n"
        "  Nothing was imported.\n  The file has no names: its order was taken to be that of "
        "jax.tree.leaves(params)."
    )


@pytest.mark.parametrize(
    ("kind", "tx", "guess"),
    [
        ("SGD", "adamw", "SGD"),
        ("Adam", "adamw", "Adam"),
        ("AdamW", "sgd", "Adam or AdamW"),
        ("Adam", "radam", "Adam"),
        ("RAdam", "adam", "RAdam"),
        ("Rprop", "asgd", "Rprop"),
        ("Muon", "lbfgs", "Muon"),
    ],
)
def test_a_file_of_another_class_is_told_by_its_keys(kind, tx, guess):
    file = saved(kind, steps=0) if kind != "Muon" else {"state": {}, "param_groups": [MUON]}
    problem = f"none of torch.optim.*, which {tx} is; it looks like one of torch.optim.{guess}\n"
    with pytest.raises(CheckpointError, match=problem):
        import_optimizer(getattr(jopt, tx)(), START, file)


MUON = {
    **torch.optim.Muon([torch.zeros(1, 1)]).param_groups[0],
    "params": [0, 1],
}


@pytest.mark.parametrize(
    "file", [{"fc.weight": 1}, {}, [1], {"state": {}, "param_groups": [{"lr": 1}]}], ids=str
)
def test_something_else_is_no_state_dict(file):
    with pytest.raises(CheckpointError, match="this is no state dict"):
        import_optimizer(jopt.adam(), START, file)


NAMES = {
    "few": (["b"], CheckpointError, "another number of parameters than adamw has leaves"),
    "unknown": (["b", "x"], ConfigError, "names= has paths that are no leaf(.|\n)*found:    x"),
    "twice": (["b", "b"], CheckpointError,
              "no parameter of torch for w(.|\n)*two parameters of torch for b"),
    "text": ("bw", ConfigError, "names= says which"),
    "no name": ({"b": 3, "w": "w"}, ConfigError, "gives a leaf something that is no name"),
    "axes": ({"b": "b", "w": Weight("w", (2, 0, 1))}, ConfigError,
             "axes of 'w' are not the parameter's"),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES)
def test_names_that_do_not_fit(case):
    names, kind, line = NAMES[case]
    with pytest.raises(kind, match=line):
        import_optimizer(optimizer("AdamW"), START, saved(), names)


def test_names_in_the_file_have_to_be_those_of_the_leaves():
    file = changed(group(param_names=["b", "v"]))
    with pytest.raises(
        CheckpointError, match="no leaf for torch's 'v'\n  no parameter of torch for w"
    ):
        import_optimizer(optimizer("AdamW"), START, file)
    state = import_optimizer(optimizer("AdamW"), START, file, {"w": "v", "b": "b"})
    assert (state["adamw"]["mu"]["w"] == file["state"][1]["exp_avg"].numpy()).all()
    # A sequence is torch's order, whatever the names say.
    again = import_optimizer(optimizer("AdamW"), START, file, ["b", "w"])
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), state, again))


SPLIT = [(["b"], {"weight_decay": 0.0}), (["w"], {"weight_decay": 0.1})]


def test_numbers_that_one_group_cannot_hold_are_refused():
    advice = re.escape(
        "weight_decay: 0.0 in torch's group 0, 0.1 in torch's group 1, and one number"
    )
    with pytest.raises(CheckpointError, match=advice):
        import_optimizer(jopt.adamw(), START, saved(groups=SPLIT), ["b", "w"])
    tx = jopt.adamw(groups={"plain": jopt.group("b", weight_decay=9.0)})
    state = import_optimizer(tx, START, saved(groups=SPLIT), ["b", "w"])
    numbers = jopt.hyperparams(state)["adamw"]
    assert float(numbers["plain"]["weight_decay"]) == 0
    assert float(numbers["default"]["weight_decay"]) == np.float32(0.1)


def test_what_is_switched_off_is_not_dropped():
    with pytest.raises(CheckpointError, match=r"group 0: momentum is 0.9, sgd is without"):
        import_optimizer(jopt.sgd(), START, saved("SGD", momentum=0.9))
    with pytest.raises(CheckpointError, match=r"eps1 is out of range|eps1 is not a number"):
        import_optimizer(jopt.adafactor(eps1=1e-3), START, saved("Adafactor"))
    state = import_optimizer(jopt.sgd(), START, saved("SGD", lr=0.5, dampening=0.3))
    assert float(state["sgd"]["hyperparams"]["default"]["learning_rate"]) == 0.5


def test_scheduled_numbers_have_to_agree():
    tx = jopt.adamw(jopt.schedules.step(0.1, 2, 0.5), weight_decay=0.01)
    state = import_optimizer(tx, START, saved(lr=0.05))
    assert int(state["adamw"]["count"]) == 3
    assert float(state["adamw"]["schedules"]["default"]["learning_rate"]["value"]) == np.float32(
        0.05
    )
    with pytest.raises(
        CheckpointError, match=r"learning_rate: 0.1 in torch, 0.05 by the schedule .* at step 3"
    ):
        import_optimizer(tx, START, saved(lr=0.1))
    early = import_optimizer(tx, START, saved(lr=0.025), count=4)
    assert int(early["adamw"]["count"]) == 4
    assert {int(x) for x in jax.tree.leaves(early["adamw"]["leaf_count"])} == {3}
    with pytest.raises(CheckpointError, match="count=2 is less than the 3 steps in the file"):
        import_optimizer(tx, START, saved(lr=0.05), count=2)
    back = export_optimizer(tx, START, state)
    assert back["param_groups"][0]["lr"] == 0.05


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_has_to_be_told_where_its_schedule_is(momentum):
    tx = jopt.sgd(jopt.schedules.step(0.1, 2, 0.5), momentum=momentum)
    file = saved("SGD", lr=0.05, momentum=momentum)
    with pytest.raises(
        CheckpointError, match="SGD keeps no step, and sgd has a schedule: say by count="
    ):
        import_optimizer(tx, START, file)
    state = import_optimizer(tx, START, file, count=3)
    assert int(state["sgd"]["count"]) == 3
    assert "leaf_count" not in state["sgd"]


def test_files_of_older_torch():
    def edit(sd):
        for key in ("maximize", "foreach", "capturable", "differentiable", "fused"):
            del sd["param_groups"][0][key]
        del sd["param_groups"][0]["decoupled_weight_decay"]
        sd["param_groups"][0] |= {"initial_lr": 0.1, "max_lr": 3.0, "lr": torch.tensor(0.1)}
        for row in sd["state"].values():
            row["step"] = 3

    state = import_optimizer(optimizer("AdamW"), START, changed(edit))
    fresh = import_optimizer(optimizer("AdamW"), START, saved(lr=0.1))
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), state, fresh))
    plain = changed(lambda sd: sd["state"].update({0: {"momentum_buffer": None}}), name="SGD")
    assert import_optimizer(jopt.sgd(1e-3), START, plain)["sgd"]["hyperparams"]
