"""Restoring from orbax into a run that has changed, and from folders that are damaged."""

import shutil

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jopt
from jopt.cli import main
from jopt.interop.orbax import restore, save
from tests.checkpoint.helpers import assert_same, fails


def rows(shape, dtype):
    mesh = jax.make_mesh((2,), ("x",), devices=jax.devices()[:2])
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec("x")))


TREE = {
    "w": np.linspace(-2, 2, 24, dtype=np.float32).reshape(4, 6),
    "n": np.arange(6, dtype=np.int32),
    "none": np.zeros((2, 0), np.float32),
    "step": 3,
}
WANTED = {"w": ml_dtypes.bfloat16, "n": np.int8, "none": np.float16}
LIKES = {
    "numpy": lambda x, dtype: np.zeros(x.shape, dtype),
    "shapes": lambda x, dtype: jax.ShapeDtypeStruct(x.shape, dtype),
    "sharded": lambda x, dtype: rows(x.shape, dtype),
}


def like_of(kind, **dtypes):
    return {k: LIKES[kind](TREE[k], d) for k, d in {**WANTED, **dtypes}.items()} | {"step": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("orbax") / "x"
    save(path, TREE)
    return path


@pytest.mark.parametrize("kind", LIKES)
def test_casts_are_those_of_load(folder, kind):
    like = like_of(kind)
    fails("dtype         w: expected bfloat16, found float32", restore, folder, like)
    found, report = restore(folder, like, cast=True, strict=False)
    expected, same = jopt.from_bytes(like, jopt.to_bytes(TREE), cast=True, strict=False)
    assert_same(found, expected)
    assert report == same
    assert report.cast == ("n", "none", "w")
    assert_same(restore(folder, like, cast=True), expected)
    for key in WANTED:
        assert type(found[key]) is type(expected[key])
        assert kind != "sharded" or found[key].sharding == like[key].sharding


def test_a_number_that_a_cast_cannot_hold(folder):
    tree = {**TREE, "n": np.full(6, 300, np.int32)}
    shutil.rmtree(folder.parent / "y", ignore_errors=True)
    save(folder.parent / "y", tree)
    for kind in LIKES:
        text = fails("do not fit", restore, folder.parent / "y", like_of(kind), cast=True)
        assert "n: from 300 to 300, and int8 holds -128 to 127" in text


def damages():
    """What may happen to each file of a folder."""
    return {
        "gone": lambda path: path.unlink(),
        "empty": lambda path: path.write_bytes(b""),
        "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "junk": lambda path: path.write_bytes(b"\xffjunk" * 20),
        "brackets": lambda path: path.write_bytes(b"[]"),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
    }


# orbax, stopped by an error, leaves coroutines behind that complain of their closed loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("what", damages())
def test_a_damaged_folder_is_whole_or_one_clear_error(folder, tmp_path, what):
    outcomes = {}
    for file in sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file()):
        shutil.copytree(folder, tmp_path / "copy")
        damages()[what](tmp_path / "copy" / file)
        try:
            assert_same(restore(tmp_path / "copy"), TREE)
            outcomes[file] = "whole"  # nobody reads this file
        except jopt.CheckpointError as error:
            outcomes[file] = error.transform
        shutil.rmtree(tmp_path / "copy")
    told = set(outcomes.values()) - {"whole"}
    assert told
    assert all(str(tmp_path / "copy") in who for who in told)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("what", ["gone", "junk"])
def test_a_damaged_folder_of_orbax_alone(tmp_path, capsys, what):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "plain", {"a": np.ones(1000, np.float32)})
    for file in sorted(p for p in (tmp_path / "plain").rglob("*") if p.is_file()):
        shutil.copytree(tmp_path / "plain", tmp_path / "copy")
        damages()[what](tmp_path / "copy" / file.relative_to(tmp_path / "plain"))
        code = main(["inspect", "--json", str(tmp_path / "copy")])
        err = capsys.readouterr().err
        assert (code, err) == (0, "") or (code == 2 and err.startswith("jopt inspect"))
        assert "Traceback" not in err
        shutil.rmtree(tmp_path / "copy")
