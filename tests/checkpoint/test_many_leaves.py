"""Many small leaves cross over together; large ones one at a time."""

import gc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jopt
from jopt.checkpoint import fetching, placing
from tests.checkpoint.helpers import assert_same, fails

COUNT = 1000


def many(count=COUNT):
    rng = np.random.default_rng(0)
    return {
        "layers": {
            f"{i:04}": {"w": rng.standard_normal((2, 3), np.float32), "b": np.full(3, i, np.int16)}
            for i in range(count // 2)
        },
        "step": 3,
        "none": None,
    }


def mesh():
    return jax.make_mesh((2,), ("x",), devices=jax.devices()[:2])


def rows(x):
    spec = PartitionSpec("x") if x.ndim == 2 else PartitionSpec()
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh(), spec))


LIKES = {
    "free": jnp.asarray,
    "shapes": lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
    "one device": lambda x: jax.device_put(x, jax.devices()[1]),
    "sharded": rows,
}


def of_arrays(make, tree):
    return jax.tree.map(lambda x: make(x) if isinstance(x, np.ndarray) else x, tree)


@pytest.mark.parametrize("kind", LIKES)
def test_loading_asks_for_many_at_once(monkeypatch, kind):
    tree = many()
    data, like = jopt.to_bytes(tree), of_arrays(LIKES[kind], tree)
    calls, true = [], jax.device_put

    def put(values, **where):
        calls.append(len(values))
        return true(values, **where)

    def callback(*args, **kwargs):
        raise AssertionError("an array was placed by itself")

    monkeypatch.setattr(jax, "device_put", put)
    monkeypatch.setattr(jax, "make_array_from_callback", callback)
    back = jopt.from_bytes(like, data)
    assert calls == [COUNT]
    assert_same(back, tree)
    for path, x in [("w", back["layers"]["0007"]["w"]), ("b", back["layers"]["0007"]["b"])]:
        target = like["layers"]["0007"][path]
        if getattr(target, "sharding", None) is not None:
            assert x.sharding == target.sharding
        assert x.committed == (kind in ("one device", "sharded"))


@pytest.mark.parametrize("kind", LIKES)
def test_very_many_of_one_shape_go_through_compiled_calls(monkeypatch, kind):
    monkeypatch.setattr(placing, "MANY", 8)
    monkeypatch.setattr(placing, "CALL", 4)
    tree = {f"{i:02}": {"w": np.full((2, 4), i, np.float32), "n": i} for i in range(11)}
    like = of_arrays(LIKES[kind], tree)
    calls, passed = [], placing._passed

    def counted(sharding):
        put = passed(sharding)
        return lambda values: (calls.append(len(values)), put(values))[1]

    monkeypatch.setattr(placing, "_passed", counted)
    monkeypatch.setattr(jax, "device_put", lambda *a, **k: pytest.fail("one was left over"))
    back = jopt.from_bytes(like, jopt.to_bytes(tree))
    assert calls == [4, 4, 4]  # the last one of eleven made up to four: one program for all
    assert_same(back, tree)
    for old, new in zip(like.values(), back.values(), strict=True):
        assert isinstance(new["w"], jax.Array)
        assert getattr(old["w"], "sharding", None) in (None, new["w"].sharding)
        assert new["w"].committed == (kind in ("one device", "sharded"))


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was_after_a_load(on):
    was, data = gc.isenabled(), jopt.to_bytes({"w": np.ones(2)})
    try:
        (gc.enable if on else gc.disable)()
        jopt.from_bytes(None, data)
        assert gc.isenabled() == on
        fails("damaged", jopt.from_bytes, None, data[:-1])
        assert gc.isenabled() == on
    finally:
        (gc.enable if was else gc.disable)()


def test_batches_are_bounded(monkeypatch):
    monkeypatch.setattr(placing, "BATCH", 10 * 24)
    tree = {f"{i:03}": np.full((2, 3), i, np.float32) for i in range(95)}
    calls, true = [], jax.device_put
    monkeypatch.setattr(
        jax, "device_put", lambda xs, **k: (calls.append(len(xs)), true(xs, **k))[1]
    )
    like = of_arrays(LIKES["shapes"], tree)
    assert_same(jopt.from_bytes(like, jopt.to_bytes(tree)), tree)
    assert calls == [10] * 9 + [5]


def test_a_large_leaf_goes_by_itself(monkeypatch):
    tree = {**many(10), "large": np.ones(fetching.LARGE // 4, np.float32)}
    calls, true = [], jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, **k: (calls.append(type(x)), true(x, **k))[1])
    like = of_arrays(LIKES["shapes"], tree)
    assert_same(jopt.from_bytes(like, jopt.to_bytes(tree)), tree)
    assert calls == [np.ndarray, list]


def test_one_leaf_of_a_batch_that_cannot_be_placed_is_named():
    tree = {"a": np.ones((2, 3), np.float32), "b": np.ones((3, 2), np.float32)}
    text = fails("cannot be placed", jopt.from_bytes, of_arrays(rows, tree), jopt.to_bytes(tree))
    assert "at:       b" in text


class Device:
    """An array that is not on the host, as `fetched` sees one."""

    def __init__(self, log, number, size=24):
        self.log, self.number, self.nbytes = log, number, size

    def copy_to_host_async(self):
        self.log.append(("asked", self.number))

    def __array__(self, dtype=None, copy=None):
        self.log.append(("got", self.number))
        return np.full(6, self.number, np.float32)


def test_a_device_is_asked_for_a_batch_before_the_first_is_waited_for(monkeypatch):
    log = []
    leaves = [((str(i),), Device(log, i)) for i in range(5)]
    leaves.insert(3, (("large",), Device(log, 9, fetching.LARGE)))
    monkeypatch.setattr(fetching, "BATCH", 48)
    monkeypatch.setattr(fetching, "_ready", lambda who, path, leaf: (leaf, True))
    found = [int(x[0]) for x in fetching.fetched("save", leaves)]
    assert found == [0, 1, 2, 9, 3, 4]
    pairs = ["asked 0", "asked 1", "got 0", "got 1", "asked 2", "got 2", "asked 9", "got 9"]
    assert [f"{what} {n}" for what, n in log] == [*pairs, "asked 3", "asked 4", "got 3", "got 4"]


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.bool_])
def test_saving_many(tmp_path, make, dtype):
    tree = {f"{i}": np.full((i % 3, 2), i, dtype) for i in range(50)} | {"0d": np.array(1, dtype)}
    jopt.save(tmp_path / "x", of_arrays(make, tree))
    assert_same(jopt.load(tmp_path / "x"), tree)
    assert (tmp_path / "x").read_bytes() == jopt.to_bytes(tree)
    for x in jax.tree.leaves(jopt.load(tmp_path / "x")):
        assert x.flags.writeable
        assert x.flags.aligned
