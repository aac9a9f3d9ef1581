"""Where loaded arrays live: their own memory, and on each device its own part."""

import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt.checkpoint import placing
from tests.checkpoint.helpers import assert_same, fails
from tests.processes import environment

SHAPE = (8, 4096)  # rows long enough for jax to keep NumPy's memory where it may


def numbers():
    return np.cos(np.arange(np.prod(SHAPE), dtype=np.float32)).reshape(SHAPE)


def mesh_of(*sizes, kind=AxisType.Auto):
    return jax.make_mesh(sizes, ("x", "y")[: len(sizes)], axis_types=(kind,) * len(sizes))


def on(mesh, *axes):
    return NamedSharding(mesh, P(*axes))


def layouts():
    eight, four, grid = mesh_of(8), mesh_of(4), mesh_of(2, 4)
    return {
        "free": None,
        "one device": jax.sharding.SingleDeviceSharding(jax.devices()[5]),
        "rows of 8": on(eight, "x"),
        "rows of 4": on(four, "x"),
        "columns of 4": on(four, None, "x"),
        "2 by 4": on(grid, "x", "y"),
        "4 by 2": on(grid, "y", "x"),
        "half copied": on(grid, "y"),
        "joint": on(grid, ("y", "x")),
        "copied": on(eight),
        "explicit": on(mesh_of(2, 4, kind=AxisType.Explicit), None, "y"),
    }


LAYOUTS = sorted(layouts())


def like_of(name):
    sharding = layouts()[name]
    if sharding is None:
        return {"w": jnp.zeros(SHAPE), "n": jnp.int32(0)}
    n = jax.sharding.SingleDeviceSharding(jax.devices()[5]) if name == "one device" else on(
        sharding.mesh)  # fmt: skip
    return {"w": jax.device_put(jnp.zeros(SHAPE), sharding), "n": jax.device_put(jnp.int32(0), n)}


def doors(like, tree):
    yield jopt.load_state_dict(like, tree)
    yield jopt.from_bytes(like, jopt.to_bytes(tree))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_any_layout_loads_into_any_other(name):
    source = numbers()
    tree = jopt.load_state_dict(like_of("rows of 8"), {"w": source, "n": np.int32(3)})
    like = like_of(name)
    for back in doors(like, tree):
        assert_same(back, {"w": source, "n": np.int32(3)})
        assert back["w"].sharding == like["w"].sharding
        assert back["w"].committed == like["w"].committed
        for shard in back["w"].addressable_shards:
            assert_same(shard.data, source[shard.index])
        # And back: the bytes do not know about layouts.
        assert jopt.to_bytes(back) == jopt.to_bytes(tree)


@pytest.mark.parametrize("name", [k for k in LAYOUTS if k != "free"])
def test_each_device_is_sent_its_own_part_only(name, monkeypatch):
    like, source = like_of(name), numbers()
    expected = {s.data.shape for s in like["w"].addressable_shards}
    asked = []
    made = jax.make_array_from_callback

    def spy(shape, sharding, part, **options):
        def seen(index):
            asked.append(part(index).shape)
            return part(index)

        return made(shape, sharding, seen, **options)

    def whole(*args, **kwargs):
        raise AssertionError("an array went to a device whole")

    monkeypatch.setattr(placing, "LARGE", 0)  # small ones go together: see test_many_leaves.py
    monkeypatch.setattr(jax, "make_array_from_callback", spy)
    monkeypatch.setattr(jax, "device_put", whole)
    monkeypatch.setattr(jnp, "asarray", whole)
    for back in doors({"w": like["w"]}, {"w": source}):
        assert_same(back, {"w": source})
        assert set(asked) == expected
        asked.clear()


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_loaded_can_be_donated(name):
    source = numbers()
    kept = {"w": source.copy(), "n": np.int32(3)}
    step = jax.jit(lambda t: {"w": t["w"] * 3 + 1, "n": t["n"] + 1}, donate_argnums=0)
    expected = {"w": np.asarray(jax.jit(lambda x: x * 3 + 1)(source)), "n": np.int32(4)}
    tree = {"w": source, "n": np.int32(3)}
    for back in doors(like_of(name), tree):
        again = step(back)  # a buffer that cannot be given away would warn, and that fails
        assert_same(again, expected)
        assert back["w"].is_deleted()
        for shard in again["w"].addressable_shards:  # also where copies began as one memory
            assert_same(shard.data, expected["w"][shard.index])
        assert_same(step(again)["n"], np.int32(5))
        assert_same(tree, kept)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_later_change_of_the_state_dict_reaches_nothing(name):
    tree = {"w": numbers(), "n": np.array(3, np.int32)}
    back = jopt.load_state_dict(like_of(name), tree)
    tree["w"][:] = 7
    tree["n"][...] = 7
    assert_same(back, {"w": numbers(), "n": np.int32(3)})


def test_numpy_leaves_are_copies_in_every_mode():
    tree = {"w": numbers()}
    for options in ({}, {"strict": False}, {"rename": {"w": "w"}}, {"cast": True}):
        back = jopt.load_state_dict({"w": np.zeros_like(tree["w"])}, tree, **options)
        back = back[0] if options.get("strict") is False else back
        assert not np.shares_memory(back["w"], tree["w"])


def test_shapes_on_an_explicit_mesh_need_the_mesh():
    # As jax.eval_shape keeps such a mesh, in some versions of jax also outside of jax.set_mesh.
    mesh = mesh_of(4, kind=AxisType.Explicit)
    params = {"w": jax.device_put(numbers(), on(mesh, "x"))}
    tx = jopt.adamw()
    state = tx.init(params)
    with jax.set_mesh(mesh):
        like = jax.eval_shape(tx.init, params)["adamw"]["mu"]
    text = fails("its mesh has no devices", jopt.load_state_dict, like, state["adamw"]["mu"])
    assert "at:       w" in text
    assert "Load within jax.set_mesh(mesh)" in text
    with jax.set_mesh(mesh):
        back = jopt.load_state_dict(like, state["adamw"]["mu"])
    assert back["w"].sharding == on(mesh, "x", None)


def test_a_sharding_that_cannot_be():
    like = {"w": jax.ShapeDtypeStruct((6,), jnp.float32, sharding=on(mesh_of(4), "x"))}
    text = fails(
        "cannot be placed as `like` asks", jopt.load_state_dict, like, {"w": np.ones(6, "f4")}
    )
    assert "at:       w" in text
    assert "found:    float32 (6,)" in text


PROCESS = """
import sys
import jax
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
import jax.numpy as jnp, numpy as np, jopt
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
like = {"w": shape(8, 3).update(sharding=NamedSharding(mesh, P("x"))),
        "n": shape().update(sharding=NamedSharding(mesh, P()))}
tree = jopt.load(sys.argv[3])
for back in (jopt.load(sys.argv[3], like), jopt.load_state_dict(like, tree)):
    assert not back["w"].is_fully_addressable
    assert [s.data.shape for s in back["w"].addressable_shards] == [(2, 3)] * 2
    for name, x in back.items():
        for s in x.addressable_shards:
            np.testing.assert_array_equal(s.data, tree[name][s.index])
"""


def test_every_process_loads_the_parts_of_its_own_devices(tmp_path):
    w = np.arange(24, dtype=np.float32).reshape(8, 3)
    jopt.save(tmp_path / "run.jopt", {"w": w, "n": np.float32(3)})
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(port), str(rank), tmp_path / "run.jopt"],
            env=environment(2),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
