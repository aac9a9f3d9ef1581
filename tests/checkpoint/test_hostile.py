"""Files of an attacker: refused or read as data, never run, soon, and in little memory."""

import io
import json
import math
import random
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jopt
from jopt.checkpoint import wire
from tests.checkpoint.forge import put_together
from tests.checkpoint.goldens import path_of
from tests.checkpoint.helpers import fails
from tests.checkpoint.hostiles import FOLDER, NONSENSE, REFUSED
from tests.checkpoint.mutate import mutated
from tests.checkpoint.oracle import LIKE, TX, check, scanned

HYPERPARAMS = {  # what `jopt.hyperparams` says of a nonsensical state
    "rate-is-text": "learning_rate is not a number",
    "rate-is-bool": "learning_rate is not a number",
    "rate-is-complex": "learning_rate is not a number",
    "rate-is-none": "learning_rate is not a number",
    "rate-is-true": "learning_rate is not a number",
    "rate-is-empty": "learning_rate is not a number",
    "group-is-text": "not kept as jopt keeps them",
    "groups-are-text": "not kept as jopt keeps them",
    "groups-are-an-array": "not kept as jopt keeps them",
    "schedules-are-a-number": "not kept as jopt keeps them",
    "schedule-without-a-value": "not kept as jopt keeps them",
    "schedule-is-a-number": "not kept as jopt keeps them",
    "schedule-is-an-array": "not kept as jopt keeps them",
    **dict.fromkeys(
        (
            "state-is-a-number",
            "state-is-an-array",
            "node-is-text",
            "empty-with-a-long-axis",
            "path-256-deep",
            "64-axes",
            "keys-of-control-codes",
        ),
        "there is no state of a jopt transform in this",
    ),
}


@pytest.mark.parametrize(("folder", "files"), [("refused", REFUSED), ("nonsense", NONSENSE)])
def test_the_corpus_is_what_its_generator_makes(folder, files):
    assert sorted(p.name for p in (FOLDER / folder).iterdir()) == sorted(files)
    assert [n for n, f in files.items() if (FOLDER / folder / n).read_bytes() != f()] == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused(name):
    path = FOLDER / "refused" / name
    data = path.read_bytes()
    assert not check(data)
    text = fails("", jopt.from_bytes, None, data)
    for read in (lambda: jopt.load(path), lambda: jopt.load(path, LIKE, tx=TX)):
        fails("", read)
    fails("", scanned, data)
    # What an error shows of the file reaches a terminal.
    assert len(text) < 2000
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


@pytest.mark.parametrize("name", NONSENSE)
def test_a_nonsensical_state_is_data_and_fits_no_transform(name):
    path = FOLDER / "nonsense" / name
    assert check(path.read_bytes())
    tree = jopt.load(path)
    assert jopt.checkpoint.differences(LIKE, tree)
    fails("the state does not fit", jopt.load, path, LIKE)
    fails("does not say which transform", jopt.load, path, tx=TX)
    if name in HYPERPARAMS:
        with pytest.raises(jopt.StateError, match=HYPERPARAMS[name]):
            jopt.hyperparams(tree)
    else:
        assert isinstance(jopt.hyperparams(tree), dict)


def test_a_number_that_is_no_array_is_read_but_not_edited():
    state = jopt.load(FOLDER / "nonsense" / "rate-is-nan")
    assert math.isnan(jopt.hyperparams(state)["adamw"]["default"]["learning_rate"])
    with pytest.raises(jopt.StateError, match="learning_rate is no array") as caught:
        jopt.set_hyperparams(state, learning_rate=0.1)
    assert (caught.value.expected, caught.value.found) == ("a scalar", "nan")


SEEDS = [path_of(n).read_bytes() for n in ("states/adamw", "states/sgd", "array", "number", "run")]


@settings(max_examples=400)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32), st.integers(1, 3))
def test_any_change_with_mended_checksums(data, seed, times):
    rng = random.Random(seed)
    for _ in range(times):
        data = mutated(data, rng)
    check(data)


def bombs():
    """Manifests that ask for as much memory as they can, by what they are made of."""
    empty = {"format": "jopt checkpoint", "transform": None, "version": 1}
    one = {"/a": {"value": 1}}
    array = {"crc32": "00000000", "dtype": "int8"}

    def config(value):
        return {**empty, "leaves": one, "transform": {"repr": "", "config": {"x": value}}}

    return {
        "maps in lists": config([[{}] * 1024] * 60),
        "lists in lists": config([[[]] * 1024] * 60),
        "maps in a map": config({f"{i:x}": {} for i in range(20_000)}),
        "short texts": config([[f"{i % 90 + 10}" for i in range(1000)]] * 50),
        "deep leaves": {
            **empty,
            "leaves": {f"/{i}" + "/a" * 250: {"value": 0} for i in range(200)},
        },
        "values": {**empty, "leaves": {f"/{i:x}": {"value": 0} for i in range(8000)}},
        "arrays": {**empty, "leaves": {f"/{i:x}": {**array, "shape": []} for i in range(4000)}},
        "axes": {**empty, "leaves": {f"/{i:x}": {**array, "shape": [1] * 64} for i in range(999)}},
        "nothing": {**empty, "leaves": {f"/{i:x}": {} for i in range(10_000)}},
    }


@pytest.mark.parametrize("name", bombs())
@pytest.mark.sampled
def test_memory_is_what_the_file_justifies(name):
    data = put_together(bombs()[name], wire.MIDDLE)
    assert len(data) > 50_000
    # Keys are interned, and now and then the process's table of such strings grows: not twice
    # in a row.
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        fails("", jopt.from_bytes, None, data)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks) < 80 * len(data)  # an empty map takes 64 bytes, and 8 in its list


@pytest.mark.parametrize("name", REFUSED)
def test_a_small_file_takes_little_memory(name):
    data = (FOLDER / "refused" / name).read_bytes()
    fails("", jopt.from_bytes, None, data)
    tracemalloc.start()
    fails("", jopt.from_bytes, None, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # msgpack packs into a buffer of a fixed size. It makes room for lists of 1024 within lists of
    # 1024, as deep as it goes, before it sees the end.
    assert peak < (9_000_000 if "1024-nested" in name else 1_000_000) + 10 * len(data)


WATCHED = """
import json, resource, sys, time
import jopt
from tests.checkpoint.hostiles import FOLDER
from tests.checkpoint.oracle import check

files = {p.name: p.read_bytes() for p in sorted(FOLDER.rglob("*")) if p.is_file()}
for data in files.values():  # what is imported once, late, is imported now
    check(data)
events, slowest = set(), 0.0
sys.addaudithook(lambda event, args: events.add(event))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26,) * 2)
events.clear()
for data in files.values():
    start = time.perf_counter()
    check(data)
    slowest = max(slowest, time.perf_counter() - start)
done = sorted(events)
print(json.dumps([len(files), slowest, done]))
"""


def test_nothing_is_run_imported_or_opened_with_64_megabytes_to_spare():
    made = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    number, slowest, events = json.loads(made.stdout)
    assert number == len(REFUSED) + len(NONSENSE)
    assert slowest < 5
    harmless = {
        "builtins.id",
        "object.__getattr__",
        "sys._getframe",
        "array.__new__",
        "cpython._PySys_ClearAuditHooks",
    }
    assert set(events) <= harmless


@pytest.mark.parametrize("kind", ["fixed", "sized"])
def test_extensions_of_a_manifest_are_complex_numbers_or_refused(kind):
    head = {"fixed": b"\xd4", "sized": b"\xc7\x01"}[kind]
    for code in range(256):
        packed = b"\x81\xa1a" + head + bytes([code]) + b"x"
        fails("the manifest cannot be decoded", scanned, wire.HEAD + packed)


def test_names_and_texts_of_a_file_cannot_steer_the_terminal():
    name = "w\x1b[2J\n  shape         fake"
    data = jopt.to_bytes({name: np.ones(2)})
    text = fails("2 differences", jopt.from_bytes, {"v": np.ones(2)}, data)
    _, report = jopt.from_bytes({"v": np.ones(2)}, data, strict=False)
    file = io.BytesIO()
    recorded = {"repr": "\x1b[2J" * 10_000, "config": {"\x1b[2J": 1}}
    wire.write("here", file, {("w",): 1}, recorded)
    other = fails("another configuration", jopt.from_bytes, None, file.getvalue(), tx=TX)
    for shown in (text, str(report), other):
        assert "\x1b" not in shown
        assert r"\x1b[2J" in shown
    assert r"\n  shape         fake" in text
    assert len(other) < 5000
