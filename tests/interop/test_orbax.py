"""jopt's trees in orbax checkpoints: whole, verified, on any mesh, and never half of one."""

import functools
import json
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jopt
from jopt.checkpoint.leaves import DTYPES
from jopt.interop.orbax import Handler, Restore, Save, restore, save
from jopt.interop.orbax.sums import checksum
from tests.checkpoint.helpers import assert_same, fails, grads, params, trained, transform


def mesh_of(n, name="x"):
    return jax.make_mesh((n,), (name,), (AxisType.Auto,), devices=jax.devices()[:n])


def sharded(x, n, *spec, name="x"):
    return jax.device_put(x, NamedSharding(mesh_of(n, name), PartitionSpec(*spec)))


def test_a_run_comes_back_bit_for_bit(tmp_path):
    state, p = trained()
    tree = {"params": p, "state": state, "step": 3, "z": 1j, "nothing": None, "none": {}}
    tree["empty"] = jnp.zeros((0, 3), jnp.bfloat16)  # orbax itself refuses it
    save(tmp_path / "run", tree, tx=transform())
    assert_same(restore(tmp_path / "run", tx=transform()), tree)
    like = {**tree, "state": jax.eval_shape(transform().init, params())}
    found = restore(tmp_path / "run", like, tx=transform())
    assert_same(found, tree)
    assert isinstance(found["empty"], jax.Array)
    assert not found["state"]["adamw"]["mu"]["dense"]["w"].committed


@pytest.mark.parametrize(
    "tree",
    [
        {"a/b": {"": np.ones(2), "é~": np.zeros(1)}, "c.d": np.ones(3)},
        np.full((), 3.0, np.float32),
        {"step": 3},
        {"x": np.zeros((0, 3))},
        {},
    ],
    ids=["keys", "leaf", "value", "empty array", "empty"],
)
def test_trees_of_any_form(tmp_path, tree):
    save(tmp_path / "x", tree)
    assert_same(restore(tmp_path / "x"), tree)


def test_another_mesh_and_other_axes(tmp_path):
    x = sharded(jnp.arange(64.0).reshape(8, 8), 8, "x")
    save(tmp_path / "x", {"w": x, "b": jnp.ones(3)})
    for target in (
        NamedSharding(mesh_of(4, "y"), PartitionSpec(None, "y")),
        NamedSharding(mesh_of(8), PartitionSpec()),
        NamedSharding(mesh_of(2), PartitionSpec("x")),
    ):
        like = {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=target), "b": jnp.ones(3)}
        found = restore(tmp_path / "x", like)
        assert found["w"].sharding == target
        assert np.array_equal(found["w"], x)
    assert isinstance(restore(tmp_path / "x")["w"], np.ndarray)


def test_saving_goes_on_while_training_donates(tmp_path):
    tx, p = transform(), params()
    state = tx.init(p)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(p, state, g):
        updates, state = tx.update(g, state, p)
        return jopt.apply_updates(p, updates), state

    with ocp.CheckpointManager(tmp_path) as manager:
        wanted = {}
        for i in range(3):
            p, state = step(p, state, grads(i))
            wanted[i] = jopt.state_dict({"p": p, "s": state})
            assert manager.save(i, args=Save({"p": p, "s": state}, tx=tx))
        step(p, state, grads(9))
        jax.tree.map(lambda x: x.delete(), (p, state))  # what was given to the last save is gone
        manager.wait_until_finished()
        assert manager.all_steps() == [0, 1, 2]
        for i, tree in wanted.items():
            assert_same(manager.restore(i, args=Restore(tx=tx)), tree)
        like = {"p": params(), "s": tx.init(params())}
        assert_same(manager.restore(2, args=Restore(like, tx=tx)), wanted[2])


def test_beside_other_items(tmp_path):
    with ocp.CheckpointManager(tmp_path) as manager:
        both = ocp.args.Composite(run=Save({"w": jnp.ones(2)}), notes=ocp.args.JsonSave({"a": 1}))
        manager.save(0, args=both)
        manager.wait_until_finished()
        asked = ocp.args.Composite(run=Restore(), notes=ocp.args.JsonRestore())
        found = manager.restore(0, args=asked)
        assert_same(found.run, {"w": np.ones(2, np.float32)})
        assert found.notes == {"a": 1}


def test_the_asynchronous_checkpointer(tmp_path):
    with ocp.AsyncCheckpointer(Handler()) as checkpointer:
        checkpointer.save(tmp_path / "x", args=Save({"w": jnp.ones(2)}))
        checkpointer.wait_until_finished()
    assert_same(restore(tmp_path / "x"), {"w": np.ones(2, np.float32)})


# orbax says that it reads the sharding from the files, which is what is asked of it here.
@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
def test_orbax_alone_reads_the_arrays(tmp_path):
    state, _ = trained()
    save(tmp_path / "x", {"state": state, "step": 3})
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "x")
    assert_same(found["state"]["adamw"], state["adamw"])


def test_what_does_not_fit_is_told(tmp_path):
    save(tmp_path / "x", {"w": np.ones(3), "old": {"b": np.ones(1)}, "step": 1}, tx=jopt.sgd(0.1))
    like = {"w": np.ones(2), "b": np.zeros(1), "new": np.zeros(1), "step": 0}
    text = fails("the state does not fit `like`", restore, tmp_path / "x", like)
    assert "missing       new: expected float64 (1,), found nothing" in text
    assert "unexpected    old/b" in text
    assert "shape         w: expected (2,), found (3,)" in text
    fails("another configuration", restore, tmp_path / "x", tx=jopt.sgd(0.1, momentum=0.9))
    found, report = restore(
        tmp_path / "x", like, strict=False, rename={"^old/": ""}, keep=["new", "w"]
    )
    assert_same(found, {"w": np.ones(2), "b": np.ones(1), "new": np.zeros(1), "step": 1})
    assert report.loaded == ("b", "step")


def test_what_cannot_be_saved(tmp_path):
    fails("orbax has no such dtypes\n  a: uint4", save, tmp_path / "x", {"a": jnp.ones(1, "uint4")})
    tree = {"a.b": np.ones(1), "a": {"b": np.zeros(1)}}
    fails("one name for two leaves\n  found:    a.b and a/b", save, tmp_path / "x", tree)
    gone = jnp.ones(3)
    gone.delete()
    fails("donated to a compiled function\n  g", save, tmp_path / "x", {"g": gone})
    fails("a typed PRNG key is no data", save, tmp_path / "x", {"k": jax.random.key(0)})
    assert list(tmp_path.iterdir()) == []
    save(tmp_path / "x", {"a": 1})
    fails("exists already", save, tmp_path / "x", {"a": 2})
    assert restore(tmp_path / "x") == {"a": 1}


def test_what_is_no_checkpoint_of_ours(tmp_path):
    fails("is no folder", restore, tmp_path / "none")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "x", {"a": np.ones(1)})
    fails("no checkpoint of jopt's handler", restore, tmp_path / "x")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orbax") / "x"
    w = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)  # does not compress
    tree = {"w": w, "b": np.ones(2, ml_dtypes.bfloat16), "step": 3}
    save(folder, tree, tx=jopt.sgd(0.1))
    return folder, tree


def same(a, b):
    assert_same(a, b)
    return True


def flipped(saved, tmp_path, file, at):
    folder, tree = saved
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    data = bytearray((copy / file).read_bytes())
    data[at] ^= 1 << at % 8
    (copy / file).write_bytes(data)
    try:
        return same(restore(copy), tree) and "unread"
    except jopt.CheckpointError as error:
        return str(error)


def files_of(saved):
    folder, _ = saved
    return [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file()]


# orbax, stopped by an error, leaves coroutines behind that complain of their closed loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_flipped_bit_is_an_error_or_in_a_byte_that_nobody_reads(saved, tmp_path):
    told = {}
    for file in files_of(saved):
        size = (saved[0] / file).stat().st_size
        for at in {0, size // 2, size - 1, *range(7, size, max(1, size // 6))}:
            told.setdefault(str(file), set()).add(flipped(saved, tmp_path, file, at)[:40])
    assert told["jopt.json"].isdisjoint({"unread"})
    numbers = {file: said for file, said in told.items() if "ocdbt.process" in file}
    assert any(said != {"unread"} for said in numbers.values())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_where_orbax_returns_wrong_numbers_jopt_does_not(saved, tmp_path):
    folder, tree = saved
    shutil.copytree(folder, tmp_path / "x")
    file = tmp_path / "x" / max(files_of(saved), key=lambda f: (folder / f).stat().st_size)
    data = file.read_bytes()
    for at in range(len(data) // 3, len(data), len(data) // 9):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        file.write_bytes(changed)
        with ocp.PyTreeCheckpointer() as checkpointer:
            try:
                w = checkpointer.restore(tmp_path / "x")["w"]
            except ValueError:  # a bit that orbax does notice
                continue
        if not np.array_equal(w, tree["w"]):
            break
    else:
        pytest.fail("orbax has noticed every flipped bit: say so in the docs")
    fails("do not match their checksum\n  at:       w", restore, tmp_path / "x")


def test_changed_numbers_do_not_match_their_checksum(saved, tmp_path):
    folder, tree = saved
    shutil.copytree(folder, tmp_path / "x")
    for name in ("ocdbt.process_0", "d", "manifest.ocdbt", "_METADATA"):
        # A consistent orbax checkpoint of other numbers: nothing but the sums can tell.
        path = tmp_path / "x" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    other = {**tree, "w": np.nextafter(tree["w"], np.float32(9))}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "y", {k: v for k, v in other.items() if k != "step"})
    shutil.copytree(tmp_path / "y", tmp_path / "x", dirs_exist_ok=True)
    fails("do not match their checksum\n  at:       w", restore, tmp_path / "x")
    like = {"w": sharded(jnp.zeros((64, 8)), 8, "x"), "b": tree["b"], "step": 0}
    fails("do not match their checksum\n  at:       w", restore, tmp_path / "x", like)
    assert restore(tmp_path / "x", {**like, "w": 0}, strict=False, keep="w")[0]["step"] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda said: {},
        lambda said: [],
        lambda said: {**said, "jopt": "!"},
        lambda said: {**said, "jopt": said["jopt"][:-8]},
        lambda said: {**said, "sums": []},
        lambda said: {**said, "sums": {}},
    ],
)
def test_a_hostile_manifest_is_a_checkpoint_error(saved, tmp_path, change):
    shutil.copytree(saved[0], tmp_path / "x")
    file = tmp_path / "x" / "jopt.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    fails("the checkpoint is damaged", restore, tmp_path / "x")
    file.write_text("[" * 100_000)
    fails("the checkpoint is damaged", restore, tmp_path / "x")


def test_killed_before_it_is_complete_there_is_no_checkpoint(tmp_path):
    code = f"""
        import os, jax.numpy as jnp, orbax.checkpoint as ocp
        from jopt.interop.orbax import Handler, Save

        def killed(self, directory):
            assert (directory / "jopt.json").exists()
            os._exit(9)

        Handler.finalize = killed
        with ocp.CheckpointManager("{tmp_path}/run") as manager:
            manager.save(0, args=Save({{"w": jnp.ones(2)}}))
            manager.wait_until_finished()
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert run.returncode == 9, run.stderr.decode()
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        assert manager.latest_step() is None


def test_without_orbax_the_error_names_the_extra():
    code = """
        import sys
        sys.modules["orbax"] = None
        import jopt.interop.orbax
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert b"jopt.interop.orbax needs orbax-checkpoint: pip install 'jopt[orbax]'" in run.stderr


@pytest.mark.parametrize("name", sorted(DTYPES))
@pytest.mark.sampled
def test_the_checksum_is_the_same_on_host_device_and_mesh(name):
    x = np.arange(48).reshape(8, 3, 2).astype(np.float32)
    x = (x % 2 == 0) if name == "bool" else x.astype(DTYPES[name])
    one = checksum(x)
    assert one == plain_checksum(x)
    try:
        on_device = jnp.asarray(x)
    except (TypeError, ValueError, RuntimeError):
        return  # jax has no such dtype
    if on_device.dtype == x.dtype and name not in ("int1", "uint1"):
        assert checksum(on_device) == one
        for spec in (("x",), (None,)):
            assert checksum(sharded(on_device, 8, *spec)) == one


def plain_checksum(x):
    """The definition, one word after the other, in Python's own numbers."""
    size = x.dtype.itemsize
    raw = x.tobytes()
    bits = {"int1": 1, "uint1": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4}.get(x.dtype.name)
    bits = bits or {"float4_e2m1fn": 4, "float6_e2m3fn": 6, "float6_e3m2fn": 6}.get(x.dtype.name, 8)
    step = min(size, 4)
    total = 0
    for i in range(len(raw) // step):
        word = int.from_bytes(raw[i * step : (i + 1) * step], "little")
        word = word if step > 1 else word & (2**bits - 1)
        k = i ^ (i >> 16)
        k = k * 0x7FEB352D % 2**32
        k ^= k >> 15
        k = k * 0x846CA68B % 2**32
        k ^= k >> 16
        total += word * (k | 1)
    return f"{total % 2**32:08x}"


def test_every_flipped_bit_changes_the_checksum():
    x = np.random.default_rng(0).integers(0, 255, 40, np.uint8)
    one = {checksum(x.view(dtype)) for dtype in (np.float32,)}
    for bit in range(8 * len(x)):
        y = x.copy()
        y[bit // 8] ^= 1 << bit % 8
        assert checksum(y.view(np.float32)) not in one
