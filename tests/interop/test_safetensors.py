"""Trees as safetensors files: the same tree back, the library's own bytes, nothing unchecked."""

import json
import random
import struct
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import jopt
from jopt.interop.safetensors import load, save
from jopt.interop.safetensors.format import NAMES
from tests.checkpoint.helpers import assert_same, fails, params, trained, transform


def header_of(path):
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def written(path, header, payload=b""):
    """A file with this header, whatever it says."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + payload)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "x.safetensors"


def test_a_run_comes_back_bit_for_bit(file):
    state, p = trained()
    tree = {"params": p, "state": state, "step": 3, "note": "ü\n", "nothing": None, "none": {}}
    save(file, tree, tx=transform())
    assert_same(load(file, tx=transform()), tree)
    like = {**tree, "state": jax.eval_shape(transform().init, params())}
    found = load(file, like, tx=transform())
    assert_same(found, tree)
    assert isinstance(found["state"]["adamw"]["mu"]["dense"]["w"], jax.Array)


def test_every_dtype_that_both_have(file):
    rng = np.random.default_rng(0)
    tree = {
        name: rng.integers(0, 2 if name == "bool" else 100, (3, 2)).astype(np.dtype(name))
        if not hasattr(ml_dtypes, name)
        else rng.normal(size=(3, 2)).astype(getattr(ml_dtypes, name))
        for name in NAMES
    }
    save(file, tree)
    assert_same(load(file), tree)


def test_the_bytes_are_those_of_the_library(file):
    tree = {name: np.ones((2, 3), np.dtype(name)) for name in NAMES if name != "float8_e8m0fnu"}
    tree |= {"scalar": np.full((), 2.0, np.float32), "empty": np.zeros((2, 0), np.int8)}
    save(file, tree)
    header, payload = header_of(file)
    metadata = header.pop("__metadata__")
    library = safetensors.numpy.save(tree, metadata=metadata)
    (n,) = struct.unpack("<Q", library[:8])
    theirs = json.loads(library[8 : 8 + n])
    assert theirs.pop("__metadata__") == metadata
    assert list(theirs.items()) == list(header.items())
    assert library[8 + n :] == payload
    assert len(library) == file.stat().st_size


def test_the_library_reads_it(file):
    state, _ = trained()
    save(file, {"state": state, "step": 3})
    theirs = safetensors.numpy.load_file(file)
    mu = state["adamw"]["mu"]["dense"]
    assert_same(theirs["state/adamw/mu/dense/w"], mu["w"])
    assert "step" not in theirs
    with safetensors.safe_open(file, "np") as opened:
        assert set(opened.metadata()) == {"format", "jopt"}


def test_keys_leaves_and_trees_of_any_form(file):
    for tree in (
        {"a/b": np.ones(2), "c~": {"": np.zeros(1)}, "é": np.ones(1)},
        np.full((), 3.0, np.float32),
        {"": np.ones(2)},
        {"x": np.zeros((0, 3))},
        {"step": 3},
        {},
    ):
        save(file, tree)
        assert_same(load(file), tree)
    save(file, [jnp.ones(2), (jnp.zeros(1), {"z": 1j})])
    assert_same(load(file, [jnp.zeros(2), (jnp.ones(1), {"z": 0j})])[1][1], {"z": 1j})


def test_the_options_of_loading(file):
    save(file, {"old": {"w": np.ones(2, np.float32)}, "b": np.ones(1)})
    like = {"w": jnp.zeros(2), "b": np.zeros(1), "new": jnp.zeros(1)}
    found, report = load(file, like, strict=False, rename={"^old/": ""}, keep="new")
    assert_same(found, {"w": np.ones(2, np.float32), "b": np.ones(1), "new": jnp.zeros(1)})
    assert report.loaded == ("b", "w")
    assert report.ok
    text = fails("missing       new: expected float32 (1,), found nothing", load, file, like)
    assert "unexpected    old/w" in text


def test_the_transform_is_compared(file):
    state, _ = trained()
    save(file, state, tx=transform())
    other = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(1e-3, amsgrad=True))
    fails("another configuration", load, file, tx=other)
    safetensors.numpy.save_file({"x": np.ones(1)}, file)
    fails("does not say which transform", load, file, tx=other)


def test_a_file_of_another_origin(file):
    theirs = {
        "model.layers.0.weight": np.ones((2, 2), np.float32),
        "model.layers.0.bias": np.zeros(2, ml_dtypes.bfloat16),
    }
    safetensors.numpy.save_file(theirs, file, metadata={"format": "pt"})
    assert_same(load(file), theirs)
    nested = load(file, rename={"[.]": "/"})
    assert_same(nested["model"]["layers"]["0"]["bias"], theirs["model.layers.0.bias"])
    like = {"model": {"layers": [{"weight": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}]}}
    found = load(file, like, rename={"[.]": "/"}, cast=True)
    assert found["model"]["layers"][0]["bias"].dtype == jnp.float32
    safetensors.numpy.save_file({"a/b": np.ones(1), "c~d": np.ones(2)}, file)
    assert_same(load(file), {"a": {"b": np.ones(1)}, "c~d": np.ones(2)})


def test_names_that_make_no_tree(file):
    safetensors.numpy.save_file({"a": np.ones(1), "a/b": np.ones(1)}, file)
    fails("a tensor stands within another\n  at:       a/b", load, file)
    safetensors.numpy.save_file({"a~": np.ones(1), "a~0": np.ones(1)}, file)
    fails("two tensors have one name", load, file)
    safetensors.numpy.save_file({"a/" * 300: np.ones(1)}, file)
    fails("a name has more than 256 levels", load, file)


def test_dtypes_that_the_other_side_lacks(file):
    tree = {"a": np.ones(1, np.complex128), "b": {"c": jnp.ones(1, jnp.int4)}, "d": np.ones(1)}
    text = fails("safetensors has no such dtypes\n  a: complex128\n  b/c: int4\n", save, file, tree)
    assert text.endswith("or use jopt.save, which has all dtypes.")
    assert not file.exists()
    written(file, {"x": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\0")
    fails("NumPy has no such dtypes\n  x: F4", load, file)
    fails("keeps this key for itself", save, file, {"__metadata__": np.ones(1)})
    fails("a typed PRNG key is no data", save, file, {"k": jax.random.key(0)})


def test_a_donated_or_failing_leaf_leaves_the_old_file(file):
    save(file, {"x": 1})
    gone = jnp.ones(3)
    gone.delete()
    fails("it was donated", save, file, {"a": np.ones(3), "x": gone})
    assert load(file) == {"x": 1}
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def small(file):
    tree = {"a": {"w": np.arange(3, dtype=np.float32)}, "b": np.ones(3, np.float32), "n": 1}
    save(file, tree, tx=jopt.sgd(0.1))
    return tree, file.read_bytes()


def test_no_flipped_bit_goes_unnoticed(file):
    _, data = small(file)
    for at in range(len(data)):
        for bit in {at % 8, 5} if at % 3 else {at % 8}:
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            file.write_bytes(changed)
            with pytest.raises(jopt.CheckpointError):
                load(file)


@pytest.mark.slow
def test_no_flipped_bit_at_all_goes_unnoticed(file):
    _, data = small(file)
    for at in range(8 * len(data)):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        file.write_bytes(changed)
        with pytest.raises(jopt.CheckpointError):
            load(file)


def test_no_cut_and_no_addition_goes_unnoticed(file):
    _, data = small(file)
    for n in range(0, len(data), 7):
        file.write_bytes(data[:n])
        with pytest.raises(jopt.CheckpointError):
            load(file)
    file.write_bytes(data + b"\0")
    fails("the checkpoint is damaged: safetensors says: ", load, file)


def test_swapped_tensors_are_noticed(file):
    small(file)
    header, payload = header_of(file)
    a, b = header["a/w"], header["b"]
    a["data_offsets"], b["data_offsets"] = b["data_offsets"], a["data_offsets"]
    written(file, header, payload)
    fails("do not match their checksum", load, file)
    header["__metadata__"].pop("jopt")
    fails("half of jopt's marks are gone", load, written(file, header, payload))


HOSTILE = {
    "empty": b"",
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "no json": b"\x02\0\0\0\0\0\0\0{]",
    "list": b"\x02\0\0\0\0\0\0\0[]",
    "deep": struct.pack("<Q", 100_000) + b"[" * 100_000,
}
X = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS = {
    "hole": {"x": {**X, "data_offsets": [8, 16]}},
    "overlap": {"x": X, "y": X},
    "lie": {"x": {**X, "shape": [2**40, 2**40]}},
    "negative": {"x": {**X, "shape": [-2]}},
    "dtype": {"x": {**X, "dtype": "F77"}},
    "numbers in metadata": {"__metadata__": {"jopt": 3}, "x": X},
    "manifest": {"__metadata__": {"format": "jopt checkpoint", "jopt": "!!"}, "x": X},
    "manifest of no map": {"__metadata__": {"format": "jopt checkpoint", "jopt": "AAAA"}, "x": X},
    "twice": b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32",'
    b'"shape":[2],"data_offsets":[0,8]}}',
}


@pytest.mark.parametrize("name", [*HOSTILE, *HEADERS])
def test_hostile_files_are_checkpoint_errors(file, name):
    if name in HOSTILE:
        file.write_bytes(HOSTILE[name])
    else:
        written(file, HEADERS[name], b"\0" * (16 if name == "hole" else 8))
    fails("the checkpoint is damaged: ", load, file)


def test_noise_is_a_checkpoint_error(file):
    _, data = small(file)
    rng = random.Random(0)
    for _ in range(200):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 40)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        file.write_bytes(changed)
        with pytest.raises(jopt.CheckpointError):
            load(file)


def test_files_that_cannot_be_read_or_written(tmp_path):
    fails("No such file", load, tmp_path / "none")
    fails("cannot be read", load, tmp_path)
    fails("Make the folder first", save, tmp_path / "no" / "x", {"a": 1})


def test_memory_is_that_of_one_array(tmp_path):
    # 64 arrays of 2 MiB: neither direction may hold a second copy of them all.
    code = """
        import resource, sys, numpy as np
        from jopt.interop.safetensors import load, save

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

        folder, direction = sys.argv[1:]
        save(f"{folder}/small", {"x": np.ones(1)})
        load(f"{folder}/small")
        if direction == "save":
            tree = {str(i): np.full(2**19, i, np.float32) for i in range(64)}
        before = peak()
        if direction == "save":
            save(f"{folder}/x", tree)
        else:
            tree = load(f"{folder}/x")
        print(peak() - before)
    """
    for direction, most in (("save", 8), ("load", 128 + 8)):
        command = [sys.executable, "-c", textwrap.dedent(code), tmp_path, direction]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(run.stdout) <= most, direction


def test_without_the_library_the_error_names_the_extra(file, monkeypatch):
    save(file, {"x": 1})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(jopt.ConfigError, match=r"pip install 'jopt\[safetensors\]'"):
        load(file)
