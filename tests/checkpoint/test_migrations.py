"""An older version is read under the names of the present one; a newer one is refused."""

import io
from dataclasses import replace

import numpy as np
import pytest

import jopt
from jopt.checkpoint import manifest, migrations, wire
from tests.checkpoint.forge import forged
from tests.checkpoint.goldens import ALL, path_of
from tests.checkpoint.helpers import assert_same, fails

ADAMW = path_of("states/adamw")


def shorter(path):
    """As if version 3 called `mu` `m`, and kept no `nu_max`."""
    if "nu_max" in path:
        return None
    return tuple("m" if key == "mu" else key for key in path)


def from_2_to_3(old):
    config = dict(old.transform["config"])
    config["adamw"] = {**config["adamw"], "slots": ["m", "nu"]}
    return replace(old.renamed(shorter), transform={**old.transform, "config": config})


def from_3_to_4(old):
    return old.renamed(lambda path: ("adamw", "first", *path[2:]) if path[1] == "m" else path)


@pytest.fixture
def version_3(monkeypatch):
    monkeypatch.setattr(manifest, "VERSION", 3)
    monkeypatch.setitem(migrations.MIGRATIONS, 2, from_2_to_3)


def expected():
    node = dict(jopt.state_dict(ALL["states/adamw"].tree())["adamw"])
    node["m"] = node.pop("mu")
    del node["nu_max"]
    return {"adamw": node}


def scanned(data):
    """Paths, kinds and numbers as `wire.scan` gives them, 16 bytes at a time."""
    file, found = io.BytesIO(data), {}
    entries = wire.read_manifest("scan", file)
    for path, entry, part in wire.scan("scan", file, entries, 16):
        found.setdefault(path, (entry, []))[1].append(part)
    return entries, found


def test_every_older_version_has_a_migration():
    assert set(migrations.MIGRATIONS) == set(range(1, manifest.VERSION))


def test_a_version_2_file_loads_as_version_3(version_3):
    tree = jopt.load(ADAMW)
    assert_same(tree, expected())
    like = expected()
    assert_same(jopt.load(ADAMW, like), like)
    fails("nu_max", jopt.load, ADAMW, ALL["states/adamw"].tree())


def test_a_scan_sees_the_new_names(version_3):
    entries, found = scanned(ADAMW.read_bytes())
    assert entries.version == 2  # of the file
    assert entries.transform["config"]["adamw"]["slots"] == ["m", "nu"]
    assert found.keys() == entries.leaves.keys()
    for path, (entry, parts) in found.items():
        leaf = expected()
        for key in path:
            leaf = leaf[key]
        assert entry.shape == leaf.shape
        assert_same(np.concatenate(parts), leaf.reshape(-1))


def test_the_transform_is_compared_as_migrated(version_3):
    text = fails("another configuration", jopt.load, ADAMW, tx=jopt.adamw(amsgrad=True))
    assert "slots: expected ['mu', 'nu', 'nu_max'], found ['m', 'nu']" in text


def test_a_dropped_leaf_is_verified_all_the_same(version_3):
    data = bytearray(ADAMW.read_bytes())
    data[-1] ^= 1  # in the last array of nu_max
    what = "the bytes of an array do not match their checksum"
    text = fails(what, jopt.from_bytes, None, data)
    assert "at:       adamw/nu_max/dense/scale" in text
    assert text.split(": ", 1)[1] == fails(what, scanned, data).split(": ", 1)[1]


def test_migrations_follow_each_other(version_3, monkeypatch):
    monkeypatch.setattr(manifest, "VERSION", 4)
    monkeypatch.setitem(migrations.MIGRATIONS, 3, from_3_to_4)
    node = expected()["adamw"]
    node["first"] = node.pop("m")
    assert_same(jopt.load(ADAMW), {"adamw": node})


def test_what_is_saved_has_the_present_version(version_3):
    data = jopt.to_bytes(jopt.load(ADAMW))
    assert scanned(data)[0].version == 3
    assert_same(jopt.from_bytes(None, data), expected())  # and is not migrated again


def test_two_leaves_cannot_become_one(version_3, monkeypatch):
    monkeypatch.setitem(migrations.MIGRATIONS, 2, lambda old: old.renamed(lambda path: path[:1]))
    with pytest.raises(ValueError, match="two leaves would have the same name"):
        jopt.load(ADAMW)


def test_a_newer_version_is_refused_with_advice():
    newer = forged(ADAMW.read_bytes(), lambda body: body.update(version=3))
    for read in (scanned, lambda data: jopt.from_bytes(None, data)):
        text = fails("a newer jopt wrote this checkpoint", read, newer)
        assert "expected: format version 2 or older" in text
        assert "found:    format version 3" in text
        assert "pip install --upgrade jopt" in text
