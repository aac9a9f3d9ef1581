"""Damaged files and folders of torch's world: always jopt's error, never what a reader raised."""

import json
import re

import jax.numpy as jnp
import pytest
import torch

import jopt
from jopt.interop.torch import import_optimizer, import_params, read_checkpoint

GROUP = {"params": [0], "lr": 0.1}


def saved(path):
    model = torch.nn.Linear(2, 1)
    torch.save(torch.optim.SGD(model.parameters(), lr=0.1).state_dict(), path)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("optimizer.pt", b"", "the file is empty"),
        ("optimizer.pt", b"hello world", "it is no file of torch.save"),
        ("optimizer.pt", b"\x1f\x8b" + bytes(30), "it is no file of torch.save"),
        ("trainer_state.json", b"{", "this is no JSON"),
        ("trainer_state.json", b"\xff", "this is no JSON"),
        ("trainer_state.json", b"[1]", r"expected: a dict\n  found:    list"),
        ("model.safetensors", b"xx", "the file cannot be read"),
        ("model.safetensors.index.json", b"{}", r"names files of this folder\n  found:    None"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../b"}}, r"found:    .*'\.\./b'"),
        ("model.safetensors.index.json", {"weight_map": {"a": 3}}, "no index of a model"),
        ("model.safetensors.index.json", {"weight_map": {"a": "b"}}, "the file cannot be read"),
    ],
)
def test_a_damaged_part_of_a_folder(tmp_path, name, content, text):
    saved(tmp_path / "optimizer.pt")
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(jopt.CheckpointError, match=text) as error:
        read_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_file_cut_anywhere(tmp_path):
    saved(tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for n in range(0, len(whole) - 1, 41):
        (tmp_path / "cut.pt").write_bytes(whole[:n])
        with pytest.raises(jopt.CheckpointError, match=re.escape(str(tmp_path / "cut.pt"))):
            read_checkpoint(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    "optimizer",
    [
        {"state": {}},
        {"state": {}, "param_groups": 3},
        {"state": {}, "param_groups": [3]},
        {"state": {}, "param_groups": [{"lr": 0.1}]},
        {"state": {}, "param_groups": [{"params": None}]},
        {"state": [], "param_groups": [GROUP]},
        {"state": {0: None}, "param_groups": [GROUP]},
    ],
)
def test_an_optimizer_of_another_form(optimizer):
    with pytest.raises(jopt.CheckpointError, match="this is no optimizer's state dict"):
        read_checkpoint({"model": {"a": torch.zeros(1)}, "optimizer": optimizer})


def test_steps_that_are_no_numbers_are_not_told():
    parts = {"optimizer": {"state": {}, "param_groups": [GROUP]}}
    run = read_checkpoint({**parts, "step": float("nan"), "epoch": torch.tensor(2)})
    assert (run.step, run.epoch) == (None, 2)
    assert read_checkpoint({**parts, "epoch": float("inf")}).epoch is None


def test_flattened_numbers_of_other_shapes_are_other_groups():
    flat = {"param_groups.v.lr": torch.ones(2), "param_groups.w.lr": torch.ones(3)}
    assert len(read_checkpoint(flat).optimizers[0]["param_groups"]) == 2


@pytest.mark.parametrize(
    ("bent", "text"),
    [
        ({"params": [[0]]}, "this is no state dict of a torch optimizer"),
        ({"param_names": None}, r"the names of group 0 are no list\n.*\n  found:    None"),
    ],
)
def test_groups_of_another_form(bent, text):
    file = torch.optim.SGD([torch.zeros(1)], lr=0.1).state_dict()
    file["param_groups"][0] |= bent
    with pytest.raises(jopt.CheckpointError, match=text):
        import_optimizer(jopt.sgd(0.1), {"a": jnp.zeros(1)}, file)


def test_parameters_that_are_no_state_dict():
    with pytest.raises(
        jopt.CheckpointError, match=r"expected: model.state_dict\(\)\n  found:    N"
    ):
        import_params({"a": jnp.zeros(1)}, None)
