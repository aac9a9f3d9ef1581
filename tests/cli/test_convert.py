"""`jopt convert`: every format there and back, what a format cannot hold, optimizers of torch."""

import ml_dtypes
import numpy as np
import pytest
import torch
from flax import serialization

import jopt
from jopt.checkpoint.leaves import DTYPES
from jopt.cli import main
from jopt.cli.formats import FORMATS
from tests.checkpoint.helpers import assert_same
from tests.cli.helpers import jopt_command, report_of

SUFFIX = {name: found.suffixes[0] for name, found in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back(work, capsys, name):
    target = f"there{SUFFIX[name]}"
    code, out, err = jopt_command(capsys, "convert", "run.jopt", target)
    assert (code, err) == (0, "")
    assert out.startswith(f"{target}: {name}, 23 leaves, 256 B from run.jopt (jopt)\n")
    assert jopt_command(capsys, "convert", target, "back.jopt")[0] == 0
    assert_same(jopt.load("back.jopt"), work)
    assert report_of(capsys, "diff", "run.jopt", target, "--exact")["compared"] == 23


def test_every_dtype_of_torch_survives(work, capsys):
    names = ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
    names += ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
    names += ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]
    tree = {n: np.ones((2, 1), DTYPES[n]) for n in names}
    tree |= {"scalar": np.ones((), ml_dtypes.bfloat16), "none": np.ones((0, 3), ml_dtypes.bfloat16)}
    jopt.save("a.jopt", tree)
    assert main(["convert", "a.jopt", "a.pt"]) == main(["convert", "a.pt", "b.jopt"]) == 0
    assert_same(jopt.load("b.jopt"), tree)
    tensors = torch.load("a.pt", weights_only=True)
    assert tensors["bfloat16"].dtype == torch.bfloat16
    assert torch.equal(tensors["scalar"], torch.ones((), dtype=torch.bfloat16))


def test_what_torch_saved_is_read(work, capsys):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).bfloat16()
    view = torch.arange(6.0).reshape(2, 3).T
    torch.save({"model": model.state_dict(), "epochs": [1, (2.5, None)], 3: view}, "m.pt")
    assert jopt_command(capsys, "convert", "m.pt", "m.jopt")[0] == 0
    tree = jopt.load("m.jopt")
    assert tree["epochs"] == {"0": 1, "1": {"0": 2.5, "1": None}}
    np.testing.assert_array_equal(tree["3"], view.numpy())
    weight = tree["model"]["0.weight"]
    assert weight.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(
        weight.astype(np.float32), model[0].weight.detach().float().numpy()
    )


def test_plain_flax_is_the_same_tree(work):
    assert main(["convert", "run.jopt", "run.msgpack"]) == 0
    with open("run.msgpack", "rb") as file:
        assert_same(serialization.msgpack_restore(file.read()), work)


def test_the_transform_goes_from_jopt_to_jopt(work, tmp_path, capsys):
    assert jopt_command(capsys, "convert", "run.jopt", "again", "--to", "jopt")[0] == 0
    assert (tmp_path / "again").read_bytes() == (tmp_path / "run.jopt").read_bytes()
    _, out, _ = jopt_command(capsys, "convert", "run.jopt", "run.pt")
    assert out.endswith("\nWhat it said about its transform stays behind.\n")


@pytest.mark.parametrize(
    ("name", "tree", "problem"),
    [
        (
            "torch",
            {"a": {"b": np.ones(2, ml_dtypes.int4)}, "c": 1},
            "torch has no dtype for these leaves",
        ),
        ("safetensors", {"a": {"b": np.ones(2, ml_dtypes.int4)}}, "safetensors has no such dtypes"),
        ("flax", None, "flax's msgpack cannot hold these leaves"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(
    work, tmp_path, capsys, name, tree, problem
):
    source = "odd.pt" if name == "flax" else "odd.jopt"
    if name == "flax":  # only torch's pickles hold such a number
        torch.save({"a": {"b": torch.ones(2), "c": 2**64}}, source)
    else:
        jopt.save(source, tree)
    target = tmp_path / f"new{SUFFIX[name]}"
    code, out, err = jopt_command(capsys, "convert", source, target)
    assert (code, out) == (2, "")
    assert problem in err
    assert "a/" in err
    assert not target.exists()


def test_nothing_is_overwritten_without_force(work, tmp_path, capsys):
    (tmp_path / "run.pt").write_text("precious")
    code, out, err = jopt_command(capsys, "convert", "run.jopt", "run.pt")
    assert (code, out) == (2, "")
    assert err == (
        "jopt convert: run.pt exists\n  Choose another name, or replace it with --force.\n"
    )
    assert (tmp_path / "run.pt").read_text() == "precious"
    assert jopt_command(capsys, "convert", "run.jopt", "run.pt", "--force")[0] == 0
    assert torch.load("run.pt", weights_only=True)["step"] == 3


def test_a_folder_is_never_replaced(work, tmp_path, capsys):
    (tmp_path / "home").mkdir()
    for options in ([], ["--force"]):
        found = jopt_command(capsys, "convert", "run.jopt", "home", "--to", "orbax", *options)
        said = (
            "jopt convert: home exists\n  A folder is never replaced: remove it, or name another.\n"
        )
        assert found == (2, "", said)
    code, _, err = jopt_command(capsys, "convert", "run.jopt", "home", "--to", "jopt", "--force")
    assert (code, "home cannot be written" in err) == (2, True)


def test_folders_that_orbax_alone_has_written_are_read(work, tmp_path, capsys):
    import orbax.checkpoint as ocp

    tree = {"w": np.ones(3, np.float32), "inner": {"b": np.ones((), ml_dtypes.bfloat16)}}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "plain", tree)
    assert jopt_command(capsys, "convert", "plain", "plain.jopt")[0] == 0
    assert_same(jopt.load("plain.jopt"), tree)
    code, _, err = jopt_command(capsys, "inspect", tmp_path)
    assert code == 2
    assert "this folder is no orbax checkpoint of one tree" in err


def test_formats_come_from_options_content_and_suffix(work, tmp_path, capsys):
    assert jopt_command(capsys, "convert", "run.jopt", "x.bin", "--to", "safetensors")[0] == 0
    assert jopt_command(capsys, "convert", "x.bin", "y.jopt", "--from", "safetensors")[0] == 0
    assert_same(jopt.load("y.jopt"), work)
    (tmp_path / "named.pt").write_bytes((tmp_path / "run.jopt").read_bytes())
    assert report_of(capsys, "inspect", "named.pt")["format"] == "jopt"
    assert report_of(capsys, "inspect", "x.bin")["format"] == "safetensors"
    (tmp_path / "y.bin").write_bytes(bytes(64))
    code, _, err = jopt_command(capsys, "convert", "y.bin", "z.jopt")
    assert code == 2
    assert "jopt convert: y.bin does not say its format\n  expected: .jopt (jopt), .ms" in err
    assert err.endswith("  found:    .bin\n  Name it with --from.\n")
    assert jopt_command(capsys, "convert", "run.jopt", "z")[2].endswith("Name it with --to.\n")


def test_files_that_are_not_what_they_are_called(work, tmp_path, capsys):
    for name in ("flax", "torch", "safetensors"):
        path = tmp_path / f"false{SUFFIX[name]}"
        path.write_bytes(b"\x00 nothing of the kind")
        code, out, err = jopt_command(capsys, "convert", path, "z.jopt")
        assert (code, out) == (2, "")
        assert not (tmp_path / "z.jopt").exists()
        assert len(err.splitlines()) <= 4, err


def test_code_in_a_torch_file_is_not_run(work, tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"x": Trap(), "w": torch.ones(2)}, "trap.pt")
    code, out, err = jopt_command(capsys, "convert", "trap.pt", "z.jopt")
    assert (code, err) == (0, "")
    line = "Of an object its class alone came over: x: <builtins.print object, not loaded>"
    assert out.splitlines()[1:] == [line]
    tree = jopt.load("z.jopt")
    assert tree["x"] == "<builtins.print object, not loaded>"
    np.testing.assert_array_equal(tree["w"], np.ones(2))


@pytest.mark.parametrize("flax", [False, True])
def test_an_optimizer_of_torch_becomes_a_state(work, capsys, flax):
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.named_parameters(), lr=0.01, amsgrad=True)
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(4, 2)).square().sum().backward()
        optimizer.step()
    torch.save(optimizer.state_dict(), "adamw.pt")
    weights = {k: v.detach().numpy() for k, v in layer.named_parameters()}
    if flax:
        weights = {"kernel": weights["weight"].T, "bias": weights["bias"]}
    jopt.save("model.jopt", {"params": weights})
    words = ["adamw.pt", "state.jopt", "--optimizer", "AdamW", "--params", "model.jopt"]
    code, _, err = jopt_command(capsys, "convert", *words, *(["--flax"] if flax else []))
    assert (code, err) == (0, "")
    tx = jopt.adamw(0.01, amsgrad=True)
    state = jopt.load("state.jopt", tx.init(weights), tx=tx)["adamw"]
    assert int(state["count"]) == 2
    moment = optimizer.state_dict()["state"][0]["exp_avg"].numpy()
    ours = state["mu"]["kernel"].T if flax else state["mu"]["weight"]
    np.testing.assert_array_equal(ours, moment)


def test_an_optimizer_needs_its_parameters(work, capsys):
    code, _, err = jopt_command(capsys, "convert", "run.jopt", "x.jopt", "--optimizer", "AdamW")
    assert code == 2
    assert "--optimizer needs --params, and a file or folder of torch with an optimizer" in err
    torch.save({"no": "optimizer"}, "a.pt")
    words = ["a.pt", "x.jopt", "--optimizer", "AdamW", "--params", "run.jopt"]
    code, _, err = jopt_command(capsys, "convert", *words)
    assert code == 2
    assert "there is nothing here that jopt knows" in err


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({1: 2.0, "1": 3.0}, "x: keys that are the same once they are text"),
        (torch.empty(2, device="meta"), "x: a tensor of torch.float32 without numbers"),
        (torch.eye(2).to_sparse(), "x: a tensor of torch.float32 in torch.sparse_coo"),
    ],
)
def test_what_torch_holds_and_jopt_does_not_is_listed(work, capsys, entry, problem):
    torch.save({"x": entry, "y": entry}, "odd.pt")
    code, _, err = jopt_command(capsys, "convert", "odd.pt", "odd.jopt")
    assert code == 2
    assert problem in err
    assert problem.replace("x:", "y:") in err


def test_a_model_that_was_saved_whole_gives_its_weights(work, capsys):
    model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.BatchNorm1d(2))
    torch.save(model, "model.pt")
    code, _, err = jopt_command(capsys, "convert", "model.pt", "model.jopt")
    assert (code, err) == (0, "")
    tree = jopt.load("model.jopt")
    assert set(tree) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tree[name], tensor.numpy())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_no_advice_to_run_a_file_and_no_warning_of_torch(work, recwarn, capsys):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), "program.pt")
    recwarn.clear()
    code, _, err = jopt_command(capsys, "inspect", "program.pt")
    assert (code, list(recwarn)) == (2, [])
    assert "a TorchScript program, not data" in err
    assert "weights_only" not in err
    assert "safe_globals" not in err


WHOLE = {
    "run.ckpt": {},
    "run.bin": {"_use_new_zipfile_serialization": False},
    "run.pth": {"pickle_protocol": 4},
    "run": {},
    "run.msgpack": {},
}


@pytest.mark.parametrize(("name", "options"), WHOLE.items())
def test_whole_runs_by_content_whatever_they_are_called(work, capsys, name, options):
    layer = torch.nn.Linear(2, 3)
    optimizers = [torch.optim.Adam(layer.parameters(), lr=lr) for lr in (0.1, 0.2)]
    layer(torch.ones(4, 2)).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    both = {"gen": optimizers[0].state_dict(), "disc": optimizers[1].state_dict()}
    torch.save({"model": layer.state_dict(), "optimizers": both, "epoch": 3}, name, **options)
    assert report_of(capsys, "inspect", name)["format"] == "torch"
    torch.save(layer.state_dict(), "model.pt")
    words = ["convert", name, "state.jopt", "--optimizer", "Adam", "--params", "model.pt"]
    code, _, err = jopt_command(capsys, *words)
    assert code == 2
    assert "found:    2 optimizers: optimizers/gen, optimizers/disc\n  Choose one: --which" in err
    code, _, err = jopt_command(capsys, *words, "--which", "disc")
    assert (code, err) == (0, "")
    state = jopt.load("state.jopt")["adam"]
    assert float(state["hyperparams"]["default"]["learning_rate"]) == np.float32(0.2)
    moment = optimizers[1].state[layer.weight]["exp_avg"].numpy()
    np.testing.assert_array_equal(state["mu"]["weight"], moment)
