"""Parts of a run wherever they stand: nested, several of a kind, in many files, in any order."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

import jopt
from jopt.interop.torch import import_optimizer, read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def trained(lr=0.01, width=2, cls=torch.optim.AdamW, **kwargs):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 1))
    optimizer = cls(model.parameters(), lr=lr, **kwargs)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()
    return model, optimizer


def same(a, b):
    """Two trees of tensors, to the bit; numbers for parameters may be text on the way."""
    if isinstance(b, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(b, dict):
        a = {str(k): v for k, v in a.items()}
        return set(a) == {str(k) for k in b} and all(same(a[str(k)], v) for k, v in b.items())
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


(GEN, G), (DISC, D) = trained(0.1), trained(0.2, 3)
FORMS = {
    "app": (
        {"app": {"model": GEN.state_dict(), "optim": G.state_dict(), "step": 7}},
        {"app/optim": G},
        {"app/model": GEN},
    ),
    "two by name": (
        {
            "optimizers": {"gen": G.state_dict(), "disc": D.state_dict()},
            "models": {"gen": GEN.state_dict(), "disc": DISC.state_dict()},
            "step": torch.tensor(7),
        },
        {"optimizers/gen": G, "optimizers/disc": D},
        {"models/gen": GEN, "models/disc": DISC},
    ),
    "two by letter": (
        {
            "generator": GEN.state_dict(),
            "discriminator": DISC.state_dict(),
            "optimizer_g": G.state_dict(),
            "optimizer_d": D.state_dict(),
            "global_step": 7,
            "rng": {"cpu": torch.get_rng_state()},
        },
        {"optimizer_g": G, "optimizer_d": D},
        {"generator": GEN, "discriminator": DISC},
    ),
    "an average beside": (
        {"model": GEN.state_dict(), "ema": GEN.state_dict(), "opt": G.state_dict(), "step": 7},
        {"opt": G},
        {"model": GEN, "ema": GEN},
    ),
    "deep": (
        {"state": {"trainer": {"net": GEN.state_dict(), "adam": G.state_dict()}}, "step": 7},
        {"state/trainer/adam": G},
        {"state/trainer/net": GEN},
    ),
    "a list": ([G.state_dict(), D.state_dict()], {"0": G, "1": D}, {}),
}


def check(run, optimizers, models, names=True):
    assert run.labels == list(optimizers)
    assert list(run.models) == list(models)
    for got, want in zip(run.optimizers, optimizers.values(), strict=True):
        assert same(got["state"], want.state_dict()["state"])
        for ours, theirs in zip(got["param_groups"], want.param_groups, strict=True):
            assert same(
                {k: v for k, v in ours.items() if k != "param_names"},
                {**theirs, "params": ours["params"]},
            )
    for label, want in models.items():
        assert same(run.models[label], want.state_dict())
    if names and models:
        order = [name for name, _ in GEN.named_parameters()]
        assert run.param_names == [order] * len(optimizers)


@pytest.mark.parametrize("form", FORMS)
def test_files_of_every_form(tmp_path, form):
    tree, optimizers, models = FORMS[form]
    torch.save(tree, tmp_path / "run.pt")
    run = read_checkpoint(tmp_path / "run.pt")
    check(run, optimizers, models)
    assert run.step == (7 if models else None)


@pytest.mark.parametrize("form", [k for k, v in FORMS.items() if v[2]])
def test_distributed_folders_of_every_form(tmp_path, form):
    tree, optimizers, models = FORMS[form]
    dcp.save(tree, checkpoint_id=tmp_path / "dcp", no_dist=True)
    run = read_checkpoint(tmp_path / "dcp")
    assert run.layout == "distributed"
    assert (run.step, set(run.labels)) == (7, set(optimizers))
    assert run.param_names == [None] * len(optimizers)  # its order is no model's
    dcp_to_torch_save(tmp_path / "dcp", tmp_path / "one.pt")
    one = read_checkpoint(tmp_path / "one.pt")
    assert set(one.labels) == set(optimizers)
    for found in (run, one):
        assert set(found.models) == set(models)
        order = [found.labels.index(label) for label in optimizers]
        assert all(
            same(found.optimizers[i]["state"], want.state_dict()["state"])
            for i, want in zip(order, optimizers.values(), strict=True)
        )
        assert all(same(found.models[k], want.state_dict()) for k, want in models.items())


@pytest.mark.parametrize("flat", [False, True])
def test_a_distributed_folder_with_names_goes_on(tmp_path, flat):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, optim = get_state_dict(GEN, G, options=options)
    dcp.save({"app": {"model": model, "optim": optim}}, checkpoint_id=tmp_path, no_dist=True)
    run = read_checkpoint(tmp_path)
    params = {k: jnp.asarray(v.numpy()) for k, v in run.params.items()}
    state = import_optimizer(jopt.adamw(0.1), params, run.optimizers[0])["adamw"]
    assert int(state["count"]) == 2
    for name, p in GEN.named_parameters():
        np.testing.assert_array_equal(state["mu"][name], G.state[p]["exp_avg"].numpy())


def test_pieces_of_a_tensor_are_put_together(tmp_path):
    """As several hosts write them: the index of one file with the pieces of four."""
    import pickle

    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

    whole = torch.arange(24.0).reshape(4, 6)
    parts = {(r, c): whole[r : r + 2, c : c + 3].clone() for r in (0, 2) for c in (0, 3)}
    dcp.save({str(k): v for k, v in parts.items()}, checkpoint_id=tmp_path, no_dist=True)
    index = pickle.loads((tmp_path / ".metadata").read_bytes())
    held = {k.fqn: place for k, place in index.storage_data.items()}
    told = index.state_dict_metadata[str((0, 0))]
    told.size = torch.Size([4, 6])
    told.chunks = [ChunkStorageMetadata(torch.Size(at), torch.Size([2, 3])) for at in parts]
    index.state_dict_metadata = {"a.w": told}
    index.storage_data = {
        MetadataIndex("a.w", torch.Size(at), i): held[str(at)] for i, at in enumerate(parts)
    }
    index.planner_data = {"a.w": ("model", "a.w")}
    (tmp_path / ".metadata").write_bytes(pickle.dumps(index))
    assert torch.equal(read_checkpoint(tmp_path).params["a.w"], whole)
    (first, place), *others = index.storage_data.items()
    index.storage_data = {first: place, MetadataIndex("a.w", torch.Size((0, 1))): place}
    (tmp_path / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(jopt.CheckpointError, match=r"two pieces of a\.w lie in one place"):
        read_checkpoint(tmp_path)
    index.storage_data = dict(others)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(jopt.CheckpointError, match=r"not all pieces of a\.w are there"):
        read_checkpoint(tmp_path)
    for bent in ({"relative_path": "../x"}, {"offset": -1}, {"length": 2**40}):
        for place in index.storage_data.values():
            place.__dict__.update(bent)
        (tmp_path / ".metadata").write_bytes(pickle.dumps(index))
        with pytest.raises(
            jopt.CheckpointError, match=r"lies in no file of this folder|is cut off"
        ):
            read_checkpoint(tmp_path)


def test_an_optimizer_without_state_in_a_distributed_folder(tmp_path):
    _, sgd = trained(cls=torch.optim.SGD)
    driver = torch.optim.lr_scheduler.MultiStepLR(sgd, [2, 4])
    tree = {"optimizer": sgd.state_dict(), "scheduler": driver.state_dict()}
    dcp.save(tree, checkpoint_id=tmp_path, no_dist=True)
    run = read_checkpoint(tmp_path)
    assert run.optimizers[0]["state"] == {}
    assert run.optimizers[0]["param_groups"][0]["params"] == [0, 1, 2, 3]
    assert jopt.interop.torch.import_scheduler("MultiStepLR", run.schedulers[0])


def test_one_of_several(tmp_path):
    tree, _, _ = FORMS["two by name"]
    for which in ("gen", "optimizers/gen", 0, -2):
        assert read_checkpoint(tree, which=which).labels == ["optimizers/gen"]
    names = [name for name, _ in DISC.named_parameters()]
    run = read_checkpoint(tree, which="disc", names=names)
    assert run.param_names == [names]
    for which in ("optimizers", "generator", 2, "en"):
        with pytest.raises(jopt.CheckpointError, match="expected: optimizers/gen, optimizers/disc"):
            read_checkpoint(tree, which=which)
    text = r"2 optimizers: optimizers/gen, optimizers/disc\n  Choose one: which='optimizers/gen'\."
    with pytest.raises(jopt.CheckpointError, match=text):
        read_checkpoint(tree, names=names)


def test_a_scheduler_alone(tmp_path):
    _, sgd = trained(cls=torch.optim.SGD)
    drivers = [
        torch.optim.lr_scheduler.StepLR(sgd, 2),
        torch.optim.lr_scheduler.LambdaLR(sgd, lambda t: 0.5**t),
        torch.optim.lr_scheduler.ReduceLROnPlateau(sgd),
        torch.optim.lr_scheduler.ChainedScheduler([torch.optim.lr_scheduler.StepLR(sgd, 2)]),
        torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 5),
    ]
    for driver in drivers:
        torch.save(driver.state_dict(), tmp_path / "scheduler.pt")
        run = read_checkpoint(tmp_path / "scheduler.pt")
        assert (run.schedulers, run.optimizers) == ([driver.state_dict()], [])


def test_twelve_optimizers_of_accelerate_in_their_order(tmp_path):
    """Files as accelerate calls them; the order is that of `prepare`, not of the text."""
    for i in range(12):
        model, optimizer = trained(lr=float(i + 1))
        end = f"_{i}" if i else ""
        driver = torch.optim.lr_scheduler.StepLR(optimizer, i + 1)
        torch.save(optimizer.state_dict(), tmp_path / f"optimizer{end}.bin")
        torch.save(driver.state_dict(), tmp_path / f"scheduler{end}.bin")
        with torch.no_grad():
            model[0].weight.fill_(i)
        torch.save(model.state_dict(), tmp_path / f"pytorch_model{end}.bin")
    torch.save({"random": torch.get_rng_state()}, tmp_path / "random_states_0.pkl")
    run = read_checkpoint(tmp_path)
    assert [o["param_groups"][0]["lr"] for o in run.optimizers] == list(range(1, 13))
    assert [s["step_size"] for s in run.schedulers] == list(range(1, 13))
    assert [float(m["0.weight"][0, 0]) for m in run.models.values()] == list(range(12))
    assert float(run.params["0.weight"][0, 0]) == 0
    assert (
        read_checkpoint(tmp_path, which="optimizer_10").optimizers[0]["param_groups"][0]["lr"] == 11
    )


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_model_in_several_files_of_the_trainer(tmp_path, suffix, indexed):
    from safetensors.torch import save_file

    weights, stem = GEN.state_dict(), "model" if suffix == "safetensors" else "pytorch_model"
    rows = {}
    for i, name in enumerate(weights, 1):
        rows[name] = f"{stem}-{i:05d}-of-{len(weights):05d}.{suffix}"
        put = save_file if suffix == "safetensors" else torch.save
        put({name: weights[name]}, tmp_path / rows[name])
    if indexed:
        index = tmp_path / f"{stem}.{suffix}.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": rows}))
    torch.save(G.state_dict(), tmp_path / "optimizer.pt")
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 2, "epoch": 0.5}))
    torch.save({"x": torch.ones(1)}, tmp_path / "custom.pt")
    run = read_checkpoint(tmp_path)
    assert (run.step, run.layout, run.left_out) == (2, "huggingface", ["custom.pt"])
    assert same(run.params, weights)
    assert run.param_names == [None]  # files in their order need not be tensors in theirs
    (tmp_path / next(iter(rows.values()))).unlink()
    with pytest.raises(jopt.CheckpointError, match=r"cannot be read|not all files of the model"):
        read_checkpoint(tmp_path)


def test_a_folder_of_which_nothing_is_known_says_what_is_in_it(tmp_path):
    torch.save(FORMS["app"][0], tmp_path / "step_100.ckpt")
    text = r"found:    step_100.ckpt\n  Name one of its files: a folder may hold several runs"
    with pytest.raises(jopt.CheckpointError, match=text):
        read_checkpoint(tmp_path)
