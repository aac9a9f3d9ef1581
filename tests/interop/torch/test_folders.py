"""Real files of the Trainer, of Lightning and of torch's distributed module, taken over.

`fixtures/make.py` wrote the frozen ones, with what torch itself did after them.
"""

import json
import pickle
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

import jopt
from jopt.interop.torch import (
    huggingface_groups,
    huggingface_schedule,
    import_optimizer,
    import_params,
    import_scheduler,
    read_checkpoint,
)

HERE = Path(__file__).parent / "fixtures"
RATES = json.loads((HERE / "huggingface_rates.json").read_text())


@pytest.mark.parametrize(
    ("name", "warmup", "kwargs", "want"),
    RATES,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(RATES)],
)
def test_schedules_are_those_of_the_trainer(name, warmup, kwargs, want, x64):
    rate = huggingface_schedule(name, 0.1, warmup, 20, **kwargs)
    got = np.asarray(rate(jnp.arange(len(want))))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-17)
    assert pickle.loads(pickle.dumps(rate)) == rate
    assert eval(repr(rate), {"jopt": jopt}) == rate


def oracle(folder):
    return json.loads((HERE / folder / "oracle.json").read_text())


def nested(flat, dtype=np.float32):
    """`{"a.b": values}` as the nested dict that jopt calls a/b."""
    tree = {}
    for name, values in flat.items():
        *path, leaf = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = jnp.asarray(np.array(values, dtype))
    return tree


def follow(tx, state, params, done, rates):
    """jopt's own next steps against torch's."""
    update = jax.jit(tx.update)
    for grads, want_rate, want in zip(done["grads"], done["rates"], done["params"], strict=True):
        for label, rate in zip(rates, want_rate, strict=True):
            coming = jopt.hyperparams(state)["adamw"][label]["learning_rate"]
            np.testing.assert_allclose(float(coming), rate, rtol=2e-6)
        updates, state = update(nested(grads), state, params)
        params = jopt.apply_updates(params, updates)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6),
            params,
            nested(want),
        )


def same_names(like):
    paths = jax.tree_util.tree_flatten_with_path(like)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    return {name: name.replace("/", ".") for name in names}


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_folder_of_the_trainer_goes_on(kind):
    done = oracle(f"huggingface_{kind}")
    run = read_checkpoint(HERE / f"huggingface_{kind}", names=done["names"])
    assert (run.step, run.epoch, run.layout) == (3, 0.25, "huggingface")
    decay, still = huggingface_groups(done["names"])
    assert run.param_names == [[*decay, *still]]
    assert decay == ["first.weight", "last.weight"]
    like = nested(done["params"][0])
    names = same_names(like)
    params = import_params(like, run.params, names)

    base = run.schedulers[0]["base_lrs"][0]
    rate = huggingface_schedule(kind, base, 2, 12, **done["extra"])
    saved = import_scheduler("LambdaLR", run.schedulers[0], lr_lambda=lambda t: rate(t) / base)
    np.testing.assert_allclose(float(saved(3)), run.schedulers[0]["_last_lr"][0], rtol=1e-6)
    quiet = jopt.group(r"bias|norm", weight_decay=0.0)
    tx = jopt.adamw(rate, weight_decay=0.1, groups={"still": quiet})
    state = import_optimizer(tx, params, run.optimizers[0], names)
    assert int(state["adamw"]["count"]) == 3
    follow(tx, state, params, done, ["default", "still"])


def test_a_lightning_checkpoint_goes_on():
    done = oracle("lightning")
    run = read_checkpoint(HERE / "lightning" / "kept.ckpt")
    assert (run.step, run.epoch, run.layout) == (3, 0, "lightning")
    assert run.param_names == [done["names"]]  # the model's order, and the buffers' shapes
    like = nested(done["params"][0])
    names = same_names(like)
    params = import_params(like, run.params, names)
    rate = import_scheduler("OneCycleLR", run.schedulers[0], param_groups=run.optimizers[0])
    tx = jopt.adamw(rate, weight_decay=0.1)
    state = import_optimizer(tx, params, run.optimizers[0], names)
    follow(tx, state, params, done, ["default"])


def model_and_optimizer(cls=torch.optim.AdamW, **kwargs):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    groups = [
        {"params": [p for n, p in model.named_parameters() if "weight" in n]},
        {"params": [p for n, p in model.named_parameters() if "bias" in n], "weight_decay": 0.0},
    ]
    optimizer = cls(groups, lr=0.01, **kwargs)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("flat", [False, True])
def test_distributed_states_name_their_parameters(flat, tmp_path):
    model, optimizer = model_and_optimizer()
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    state_dict = get_optimizer_state_dict(model, optimizer, options=options)
    torch.save({"optim": state_dict, "model": model.state_dict()}, tmp_path / "run.pt")
    run = read_checkpoint(tmp_path / "run.pt")
    assert run.param_names == [["0.weight", "1.weight", "0.bias", "1.bias"]]
    want = optimizer.state_dict()
    got = run.optimizers[0]
    assert [g["params"] for g in got["param_groups"]] == [[0, 1], [2, 3]]
    assert [g["weight_decay"] for g in got["param_groups"]] == [0.01, 0.0]
    for i, row in want["state"].items():
        for key, value in row.items():
            assert torch.equal(got["state"][i][key], value)
    like = nested({k: v.numpy() for k, v in model.state_dict().items()})
    quiet = jopt.group("bias", weight_decay=0.0)
    tx = jopt.adamw(0.01, groups={"still": quiet})
    state = import_optimizer(tx, like, got, same_names(like))
    mu = np.asarray(state["adamw"]["mu"]["1"]["weight"])
    assert np.array_equal(mu, optimizer.state[model[1].weight]["exp_avg"].numpy())
    alone = read_checkpoint(state_dict)
    assert alone.optimizers[0]["param_groups"] == got["param_groups"]


KEYS = [
    {"model": "model", "optimizer": "optimizer", "scheduler": "scheduler", "step": "step"},
    {
        "model": "model_state_dict",
        "optimizer": "optimizer_state_dict",
        "scheduler": "lr_scheduler",
        "step": "iteration",
    },
]


@pytest.mark.parametrize("keys", KEYS)
def test_a_dict_of_parts(keys, tmp_path):
    model, optimizer = model_and_optimizer(torch.optim.SGD, momentum=0.9)
    driver = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    parts = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": driver.state_dict(),
        "step": torch.tensor(3),
    }
    torch.save({keys[k]: v for k, v in parts.items()}, tmp_path / "run.pt")
    run = read_checkpoint(str(tmp_path / "run.pt"))
    assert run.step == 3
    assert run.schedulers == [driver.state_dict()]
    assert run.param_names == [None]  # the model's order is not the optimizer's: shapes say so
    names = ["0.weight", "1.weight", "0.bias", "1.bias"]
    assert read_checkpoint(tmp_path / "run.pt", names=names).param_names == [names]
    bare = read_checkpoint(optimizer.state_dict(), names=names)
    assert (bare.param_names, bare.params, bare.step) == ([names], None, None)
    assert list(read_checkpoint(model.state_dict()).params) == list(model.state_dict())


def test_an_accelerate_folder_and_the_old_model_file(tmp_path):
    model, optimizer = model_and_optimizer(torch.optim.SGD, momentum=0.9)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.bin")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer_1.bin")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    run = read_checkpoint(tmp_path)
    assert len(run.optimizers) == 2
    assert list(run.params) == list(model.state_dict())


def test_a_model_in_several_files(tmp_path):
    from safetensors.torch import save_file

    for i, name in enumerate(("a", "b")):
        save_file({name: torch.full((2,), float(i))}, tmp_path / f"model-{i}.safetensors")
    weight_map = {"a": "model-0.safetensors", "b": "model-1.safetensors"}
    text = json.dumps({"weight_map": weight_map})
    (tmp_path / "model.safetensors.index.json").write_text(text)
    assert {k: v.tolist() for k, v in read_checkpoint(tmp_path).params.items()} == {
        "a": [0.0, 0.0],
        "b": [1.0, 1.0],
    }


class Evil:
    def __reduce__(self):
        return open, ("owned", "w")


def test_no_code_of_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"optimizer": Evil()}, "bad.pt")
    found = r"  found:    optimizer <_?io\.open object, not loaded>"
    text = r"nothing here that jopt knows\n(.*\n)+" + found
    with pytest.raises(jopt.CheckpointError, match=text):
        read_checkpoint("bad.pt")
    assert not Path("owned").exists()
    Path("short.pt").write_bytes(Path("bad.pt").read_bytes()[:100])
    with pytest.raises(jopt.CheckpointError, match="its zip archive is damaged"):
        read_checkpoint("short.pt")
    with pytest.raises(
        jopt.CheckpointError, match=r"the file cannot be read\n  at:       none\.pt"
    ):
        read_checkpoint("none.pt")


def test_what_is_not_known_is_told(tmp_path):
    done = oracle("huggingface_linear")
    with pytest.raises(
        jopt.CheckpointError, match=r"nothing here that jopt knows\n.*\n.*found:    a"
    ):
        read_checkpoint({"a": 1})
    with pytest.raises(jopt.CheckpointError, match=r"found:    list"):
        read_checkpoint([1])
    with pytest.raises(jopt.CheckpointError, match=r"expected: 5 names\n  found:    1: first"):
        read_checkpoint(HERE / "huggingface_linear", names=done["names"][:1])
    bent = [n.replace("norm", "ln_1") for n in done["names"]]
    text = r"other groups than their names say\n  expected: 2 and 3 parameters\n  found:    3 and 2"
    with pytest.raises(jopt.CheckpointError, match=text):
        read_checkpoint(HERE / "huggingface_linear", names=bent)
    run = read_checkpoint(HERE / "huggingface_linear", names=bent, norms=r"\bln_")
    assert run.param_names[0][2:] == ["first.bias", "ln_1.weight", "ln_1.bias"]
    assert read_checkpoint(HERE / "huggingface_linear").param_names == [None]
    shutil.copytree(HERE / "huggingface_linear", tmp_path / "dcp")
    (tmp_path / "dcp" / ".metadata").write_bytes(b"")
    with pytest.raises(jopt.CheckpointError, match="this distributed checkpoint cannot be read"):
        read_checkpoint(tmp_path / "dcp")
    with pytest.raises(jopt.CheckpointError, match="names= are those of one optimizer"):
        read_checkpoint({"model": {"a": torch.ones(1)}}, names=["a"])
    flat = {"param_groups.w.lr": 0.1, "state.v.step": 1.0}
    with pytest.raises(jopt.CheckpointError, match=r"that is in no group\n  at:       v"):
        read_checkpoint(flat)
    with pytest.raises(jopt.CheckpointError, match=r"no key of a flattened .*\n  at:       step"):
        read_checkpoint({"param_groups.w.lr": 0.1, "step": 1.0})
    with pytest.raises(jopt.CheckpointError, match=r"no optimizer's state dict"):
        read_checkpoint({"optimizer": {"lr": 0.1}})


WRONG = [
    (("greedy", 0.1), {}, "no schedule is called 'greedy'"),
    (("linear", 0.1, 2, 10), {"power": 2}, "'linear' has no argument 'power'"),
    (("linear", 0.1, 2), {}, "training_steps is a number of steps"),
    (("constant", 0.1, 2), {}, "'constant' has no warm-up"),
    (("cosine_with_min_lr", 0.1, 2, 10), {}, "needs one of min_lr and min_lr_rate"),
    (("warmup_stable_decay", 0.1, 2), {}, "needs num_decay_steps, and num_stable_steps or"),
]


@pytest.mark.parametrize(("args", "kwargs", "text"), WRONG)
def test_wrong_schedules_are_told(args, kwargs, text):
    with pytest.raises(jopt.ConfigError, match=re.escape(text)):
        huggingface_schedule(*args, **kwargs)


def test_groups_that_share_a_shape_have_no_guessed_names():
    # The order of the groups is not the model's, and no shape would tell.
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2, bias=False) for _ in range(2)))
    first, last = model.parameters()
    for rows, want in (([[last], [first]], [None]), ([[first, last]], [["0.weight", "1.weight"]])):
        optimizer = torch.optim.SGD([{"params": row} for row in rows], lr=0.1, momentum=0.9)
        model(torch.ones(2)).sum().backward()
        optimizer.step()
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        assert read_checkpoint(parts).param_names == want
