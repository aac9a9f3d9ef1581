"""What passes through memory: one leaf at a time, and none of them twice."""

import gc
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jopt
from jopt.checkpoint import files, memory, wire
from tests.checkpoint.helpers import assert_same, fails

LEAF = 2**21
COUNT = 4
SLACK = 2**19  # manifest, buffers, Python's own


def state(make=lambda x: x):
    return {f"x{i}": make(np.full((1024, LEAF // 4096), i + 1, np.float32)) for i in range(COUNT)}


def by_rows(x, *spec):
    mesh = jax.make_mesh((8,), ("data",))
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec or ["data"])))


def by_columns(x):
    return by_rows(x, None, "data")


def reserved(call, *args):
    """What numpy and Python hold at the most during a call, and what of it remains after."""
    jax.block_until_ready(args)
    gc.collect()
    tracemalloc.start()
    try:
        result = call(*args)
        jax.block_until_ready(result)
        gc.collect()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return result, peak, held


@pytest.mark.parametrize("chunk", [2**30, 2**20])
@pytest.mark.parametrize(
    ("make", "leaves"),
    [
        (lambda x: x, 0),
        (lambda x: x.astype(ml_dtypes.bfloat16), 0),
        (jnp.asarray, 0),
        (by_rows, 1),
        (by_columns, 1),
        (lambda x: x.T, 1),
        (lambda x: x.astype(">f4"), 1),
    ],
    ids=["numpy", "bfloat16", "jax", "by rows", "by columns", "transposed", "big-endian"],
)
@pytest.mark.sampled
def test_saving(tmp_path, monkeypatch, make, leaves, chunk):
    monkeypatch.setattr(wire, "CHUNK", chunk)
    tree = state(make)
    jopt.save(tmp_path / "warm", tree)
    _, peak, held = reserved(jopt.save, tmp_path / "x", tree)
    assert peak < leaves * LEAF + SLACK
    assert held < SLACK  # of a sharded array jax would keep what it fetched


@pytest.mark.parametrize("chunk", [2**30, 2**20])
@pytest.mark.parametrize(
    ("like", "leaves"),
    [
        (lambda: None, COUNT),
        (state, COUNT),
        # jax on a CPU takes the array over: it is copied neither by numpy nor by jax.
        (lambda: state(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)), COUNT),
        (lambda: state(by_rows), COUNT),
        (lambda: state(by_columns), COUNT + 1),  # each part is copied, one leaf after the other
    ],
    ids=["no like", "numpy", "shapes", "by rows", "by columns"],
)
@pytest.mark.sampled
def test_loading(tmp_path, monkeypatch, like, leaves, chunk):
    monkeypatch.setattr(wire, "CHUNK", chunk)
    jopt.save(tmp_path / "x", state())
    like = like()
    jopt.load(tmp_path / "x", like)
    loaded, peak, _ = reserved(jopt.load, tmp_path / "x", like)
    assert peak < leaves * LEAF + SLACK
    assert_same(loaded, state())


def test_jax_takes_over_what_was_loaded(tmp_path):
    jopt.save(tmp_path / "x", state())
    like = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in state().items()}
    loaded, _, held = reserved(jopt.load, tmp_path / "x", like)
    assert held > COUNT * LEAF  # numpy's memory, which jax's arrays are made of
    # Donated, they are still the owner's: XLA takes no memory over that is not its own.
    first, second = loaded["x0"], loaded["x1"]
    out = jax.jit(lambda x, y: (x + 1, y + 1), donate_argnums=(0, 1))(first, second)
    assert [float(x[-1, -1]) for x in out] == [2.0, 3.0]
    assert float(loaded["x2"][-1, -1]) == 3.0


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7,), (2**14 + 1,), (129, 130)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.complex128, ml_dtypes.bfloat16])
def test_memory_for_an_array(shape, dtype):
    array = memory.empty(shape, np.dtype(dtype))
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.nbytes < 2**16 or array.ctypes.data % memory.ALIGNMENT == 0
    assert len(memory.bytes_of(array)) == array.nbytes


def test_to_bytes():
    data, peak, held = reserved(jopt.to_bytes, state())
    assert len(data) < COUNT * LEAF + SLACK
    assert held < COUNT * LEAF + SLACK
    assert peak < COUNT * LEAF * 9 / 8 + SLACK  # what is written to grows by an eighth


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_from_bytes(kind):
    data = kind(jopt.to_bytes(state()))
    tree, peak, _ = reserved(jopt.from_bytes, None, data)
    assert peak < COUNT * LEAF + SLACK
    assert_same(tree, state())
    assert tree["x0"].flags.writeable


def test_bytes_with_gaps_between():
    data = np.zeros((len(whole := jopt.to_bytes({"x": np.arange(9)})), 2), np.uint8)
    data[:, 0] = np.frombuffer(whole, np.uint8)
    assert_same(jopt.from_bytes(None, memoryview(data[:, 0])), {"x": np.arange(9)})


TREE = {
    "a": {"big": np.arange(1000, dtype=np.float32).reshape(10, 100), "none": None},
    "b": np.array(7, np.int32),
    "c": np.arange(33).astype(ml_dtypes.bfloat16),
    "empty": np.zeros((3, 0)),
    "z": np.arange(5) * (1 + 2j),
    "step": 3,
}


def scanned(path, *args):
    with files.reading("scan", path) as file:
        yield from wire.scan("scan", file, wire.read_manifest("scan", file), *args)


@pytest.mark.parametrize("chunk", [2**30, 104])
@pytest.mark.parametrize("size", [1, 16, 100, 2**24])
def test_a_scan_gives_every_number(tmp_path, monkeypatch, size, chunk):
    monkeypatch.setattr(wire, "CHUNK", chunk)
    jopt.save(tmp_path / "x", TREE)
    parts = {}
    for path, entry, part in scanned(tmp_path / "x", size):
        if isinstance(part, np.ndarray):
            assert part.ndim == 1
            assert part.dtype.name == entry.dtype
            assert part.nbytes <= max(size, part.dtype.itemsize)
        parts.setdefault(path, (entry, []))[1].append(part)
    whole = {}
    for path, (entry, found) in parts.items():
        shaped = entry.kind.shape is not None
        whole[path] = np.concatenate(found).reshape(entry.shape) if shaped else found[0]
        assert shaped or len(found) == 1
    expected = {("a", "big"): TREE["a"]["big"], ("a", "none"): None}
    expected |= {(k,): v for k, v in TREE.items() if k != "a"}
    assert list(whole) == sorted(expected)
    assert_same({"/".join(k): v for k, v in whole.items()},
                {"/".join(k): v for k, v in expected.items()})  # fmt: skip


def test_a_scan_takes_memory_for_one_part(tmp_path):
    jopt.save(tmp_path / "x", state())

    def scan():
        return sum(part.nbytes for _, _, part in scanned(tmp_path / "x", 2**16))

    list(scanned(tmp_path / "x"))
    total, peak, _ = reserved(scan)
    assert total == COUNT * LEAF
    assert peak < SLACK


def test_a_scan_finds_damage_before_it_gives_the_last_part(tmp_path):
    jopt.save(tmp_path / "x", {"w": np.arange(1000, dtype=np.float32)})
    data = bytearray((tmp_path / "x").read_bytes())
    data[-4000] ^= 1
    (tmp_path / "x").write_bytes(data)
    parts = scanned(tmp_path / "x", 1000)
    assert [len(next(parts)[2]) for _ in range(3)] == [250] * 3
    text = fails("the bytes of an array do not match their checksum", next, parts)
    assert "at:       w" in text


@pytest.mark.parametrize("step", [1, 7, 100, 2**20])
def test_the_size_of_steps_changes_nothing(monkeypatch, step):
    data = jopt.to_bytes(TREE)
    monkeypatch.setattr(wire, "STEP", step)
    assert jopt.to_bytes(TREE) == data
    assert_same(jopt.from_bytes(None, data), TREE)


class Slow(memory._Bytes):
    """A file that gives three bytes at a time, as some systems may."""

    def readinto(self, target):
        return super().readinto(memoryview(target).cast("B")[:3])


def test_a_file_that_gives_a_little_at_a_time():
    data = jopt.to_bytes(TREE)
    file = memory.opened(data)
    manifest = wire.read_manifest("read", file)
    slow = Slow(data)
    slow.seek(file.tell())
    slow.read = lambda size: data[(at := slow.tell()) : slow.seek(at + size)]
    found = dict(wire.read_leaves("read", slow, manifest))
    assert np.array_equal(found["a", "big"], TREE["a"]["big"])


def test_a_file_cut_off_while_it_is_read(tmp_path):
    jopt.save(tmp_path / "x", state())
    with files.reading("read", tmp_path / "x") as file:
        leaves = wire.read_leaves("read", file, wire.read_manifest("read", file))
        next(leaves)
        with open(tmp_path / "x", "r+b") as other:
            other.truncate(5 * LEAF // 2)
        next(leaves)
        fails("do not match their checksum", next, leaves)
