"""The frozen files: read as they were meant, written again to the byte, whole in flax's eyes."""

import hashlib
import os
import subprocess
import sys
from unittest import mock

import flax.serialization
import jax
import numpy as np
import pytest

import jopt
from tests.catalog import CATALOG
from tests.checkpoint.goldens import ALL, FOLDER, GOLDENS, STATES, of_version_1, path_of
from tests.checkpoint.helpers import assert_same

ADVICE = "python -m tests.checkpoint.goldens writes the file of a new optimizer"


def backwards(tree):
    """The same tree, every dict the other way round."""
    if isinstance(tree, dict):
        return {key: backwards(tree[key]) for key in reversed(tree)}
    return type(tree)(map(backwards, tree)) if isinstance(tree, list | tuple) else tree


def plain(tree):
    """As a file without `like` gives it: lists and tuples are dicts."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {str(key): plain(kid) for key, kid in items}
    return np.asarray(tree) if isinstance(tree, jax.Array) else tree


def test_every_optimizer_has_a_golden_state():
    missing = [entry.name for entry in CATALOG if not path_of(f"states/{entry.name}").exists()]
    assert not missing, ADVICE


@pytest.mark.parametrize("name", ALL)
def test_a_golden_file_holds_exactly_this(name):
    golden = ALL[name]
    data = path_of(name).read_bytes()
    assert_same(golden.read(data), plain(golden.tree()))
    assert_same(golden.read(data, golden.tree(), golden.tx()), golden.tree())


# What `run` had of a round that has begun is a matter of its own: see test_rounds.py.
@pytest.mark.parametrize("name", [n for n in ALL if n != "run" and path_of(n, 1).exists()])
def test_a_golden_file_of_version_1_is_read_as_of_today(name):
    golden = ALL[name]
    data = path_of(name, 1).read_bytes()
    expected = of_version_1(plain(golden.tree()))
    assert_same(golden.read(data), expected)
    taken = golden.read(data, golden.tree(), golden.tx())
    assert_same(plain(jopt.state_dict(taken)), of_version_1(plain(jopt.state_dict(golden.tree()))))


def test_the_files_of_version_1_are_frozen():
    names = [f"{path.relative_to(FOLDER)}" for path in (FOLDER / "v1").rglob("*.jopt")]
    sums = {n: hashlib.sha256((FOLDER / n).read_bytes()).hexdigest() for n in sorted(names)}
    whole = hashlib.sha256("".join(f"{n} {s}\n" for n, s in sums.items()).encode()).hexdigest()
    assert (len(sums), whole) == (
        25,
        "b4b90b39b2259c9054f690d6c4a40657e12af9730b6aac603f1e33212adf5dcb",
    )


@pytest.mark.parametrize("name", ALL)
def test_saving_gives_exactly_the_golden_bytes(name):
    golden = ALL[name]
    frozen = path_of(name).read_bytes()
    assert golden.written().hex() == frozen.hex()
    assert golden.written(backwards(golden.tree())) == frozen
    assert golden.written(golden.read(frozen)) == frozen


@pytest.mark.parametrize("name", ALL)
def test_flax_reads_a_golden_file_whole_and_writes_the_same(name):
    golden = ALL[name]
    data = path_of(name).read_bytes()
    whole = flax.serialization.msgpack_restore(data)
    assert_same(whole["tree"], plain(golden.tree()))
    with mock.patch.object(flax.serialization, "MAX_CHUNK_SIZE", golden.chunk):
        assert flax.serialization.msgpack_serialize(whole) == data


@pytest.mark.parametrize("name", STATES)
def test_a_golden_state_fits_the_optimizer_of_today(name):
    golden = STATES[name]
    tx = golden.tx()
    state = golden.read(path_of(f"states/{name}").read_bytes(), golden.tree(), tx)
    assert jopt.hyperparams(state).keys() == {name}
    assert tx.parts.keys() == state.keys()


def test_two_processes_write_the_same_bytes():
    frozen = {name: hashlib.sha256(path_of(name).read_bytes()).hexdigest() for name in GOLDENS}
    code = (
        "import hashlib, sys; from tests.checkpoint.goldens import GOLDENS\n"
        "for k, v in GOLDENS.items(): print(k, hashlib.sha256(v.written()).hexdigest())"
    )
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    for other in others:
        out, _ = other.communicate(timeout=120)
        assert dict(line.split() for line in out.splitlines()) == frozen
