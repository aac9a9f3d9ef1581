"""Every array of a state gets the sharding that its declaration implies."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt.core.places import SHARED, Place, by_path, by_slot
from jopt.core.tree import layout_of
from jopt.sharding.mesh import along
from tests.catalog import CATALOG
from tests.sharding.meshes import (
    AUTO,
    EXPLICIT,
    SPECS,
    factored,
    host_grads,
    host_params,
    mesh_of,
    put,
    shapes,
    shardings,
    specs,
)

MESHES = [(2, 4), (4, 2), (1, 8), (8, 1)]


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["auto", "explicit"])
@pytest.mark.parametrize("shape", MESHES, ids=str)
@pytest.mark.parametrize("name", SPECS)
def test_slots_get_the_very_sharding_of_their_parameter(name, shape, kind):
    mesh = mesh_of(*shape, kind)
    params = put(host_params(), mesh, name)
    found = jopt.sharding.state_sharding(jopt.adamw(1e-3, amsgrad=True), params)["adamw"]
    for slot in ("mu", "nu", "nu_max"):
        assert found[slot] == shardings(mesh, name)
    shared = [found["count"], *found["hyperparams"]["default"].values()]
    assert len(shared) == 6
    assert all(s == NamedSharding(mesh, P()) for s in shared)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda e: e.name)
def test_every_optimizer_says_where_its_state_lives(entry):
    mesh = mesh_of(2, 4)
    whole = {1: np.ones(8, np.float32), 2: np.ones((8, 8), np.float32)}
    spec = {1: P("model"), 2: P("data", "model")}
    params = {
        f"p{n}": jax.device_put(whole[n], NamedSharding(mesh, spec[n]))
        for n in entry.ndims
        if n in whole
    }
    tx = entry.make()
    found = jopt.sharding.state_sharding(tx, params)
    state = jax.eval_shape(tx.init, params)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    node, where = state[entry.name], found[entry.name]
    slots = {s.name for s in tx.parts[entry.name].slots}
    # What is kept beside whole matrices goes over all devices, be it square as its parameter is.
    spread = {s.name for s in tx.parts[entry.name].slots if s.owned and s.shape != "like"}
    for key, tree in node.items():
        for path, x in jax.tree_util.tree_leaves_with_path(tree):
            sharding = _at(where[key], path)
            assert len(sharding.shard_shape(x.shape)) == x.ndim  # raises if an axis won't divide
            owner = params.get(path[0].key) if path and key in slots else None
            if owner is not None and owner.shape == x.shape:
                over = NamedSharding(mesh, P(("data", "model"), *(None,) * (x.ndim - 1)))
                assert sharding == (over if key in spread else owner.sharding)
            if owner is None:
                assert sharding == NamedSharding(mesh, P())


def _at(tree, path):
    for k in path:
        tree = tree[k.key]
    return tree


def test_other_shapes_keep_the_axes_they_share_with_the_parameter():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    del params["b"]
    found = specs(jopt.sharding.state_sharding(factored(), params)["factored"])
    assert found == {
        "count": P(),
        "given": P(),
        "hyperparams": {"default": {"learning_rate": P()}},
        "m": {"w": P("data", "model"), "deep": {"k": P("model", None, "data")}},
        "r": {"w": P("data"), "deep": {"k": P("model")}},
        "c": {"w": P(None, "model"), "deep": {"k": P("model", None, "data")}},
        "n": {"w": P(), "deep": {"k": P()}},
        "past": {"w": P(None, "data", "model"), "deep": {"k": P(None, "model", None, "data")}},
        "v": {"w": P("model"), "deep": {"k": P("data")}},
        "left": {"w": P(), "deep": {"k": P()}},
    }


@pytest.mark.parametrize(
    ("rule", "shape", "axes"),
    [
        ("like", (3, 3), (0, 1)),
        ("like", (), ()),
        ("row", (3, 3), (0, None)),
        ("row", (3,), (None,)),
        ("row", (), (None,)),
        ("column", (2, 3, 3), (0, None, 2)),
        ("column", (3,), (None, 0)),
        ("column", (), (None,)),
        ("scalar", (3, 3), ()),
        (lambda s, o: (5, *s), (3, 4), (None, 0, 1)),
        (lambda s, o: s[1:], (3, 4, 5), (1, 2)),
        (lambda s, o: (7, 7), (3, 4), (None, None)),
        (lambda s, o: (4, 4), (3, 4), (None, 1)),
        (lambda s, o: (), (3, 4), ()),
    ],
)
def test_axes_follow_from_the_shape_rule(rule, shape, axes):
    slot = jopt.Slot("x", rule)
    assert slot.axes_for(shape, {}) == axes
    assert len(axes) == len(slot.shape_for(shape, {}))


def test_what_a_codec_stores_keeps_the_slots_axes():
    mesh = mesh_of(2, 4)
    shape, sharding = (8, 64), NamedSharding(mesh, P("data", "model"))

    def found(*stored):
        held = {"x": jax.ShapeDtypeStruct(stored, jnp.int8)}
        place = by_slot(jopt.Slot("mu"), 0, shape, {}, held)["x"]
        return along(sharding, place, stored, shape).spec

    assert found(8, 64) == P("data", "model")  # codes
    assert found(8, 4) == P("data", "model")  # a number for each block of 16
    assert found(8, 2) == P("data", None)  # two blocks of 32: not over four devices
    assert found(8, 4, 16) == P("data", "model", None)  # codes in blocks
    assert found() == P()


def test_shapes_say_as_much_as_arrays():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.adamw(jopt.schedules.cosine(0.1, 100)))
    assert jopt.sharding.state_sharding(tx, shapes(params)) == jopt.sharding.state_sharding(
        tx, params
    )


def test_a_mesh_gives_the_devices_to_abstract_shardings():
    mesh = mesh_of(2, 4, EXPLICIT)
    params = put(host_params(), mesh, "both")
    traced = jax.eval_shape(lambda p: jax.tree.map(jnp.cos, p), params)
    assert isinstance(traced["w"].sharding.mesh, AbstractMesh)
    found = jopt.sharding.state_sharding(jopt.adam(1e-3), traced, mesh)
    assert specs(found["adam"]["mu"]) == SPECS["both"]
    assert all(s.mesh == mesh for s in jax.tree.leaves(found))


def test_unplaced_parameters_are_replicated_on_the_mesh():
    mesh = mesh_of(2, 4)
    found = jopt.sharding.state_sharding(jopt.adam(1e-3), host_params(), mesh)
    assert set(jax.tree.leaves(found)) == {NamedSharding(mesh, P())}
    mixed = {**host_params(), "w": put(host_params(), mesh, "both")["w"]}
    found = jopt.sharding.state_sharding(jopt.adam(1e-3), mixed)["adam"]["mu"]
    assert jax.tree.map(lambda s: s.spec, found) == {
        "w": P("data", "model"),
        "b": P(),
        "deep": {"k": P()},
    }


def test_groups_frozen_leaves_and_stateful_chains():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "column")
    groups = {"frozen": jopt.group("^deep/", freeze=True), "b": jopt.group("^b$", b1=0.5)}
    tx = jopt.chain(jopt.clip_by_norm(1.0), jopt.adamw(1e-3, groups=groups))
    found = specs(jopt.sharding.state_sharding(tx, params))
    assert found["adamw"]["mu"] == {"w": P(None, "model"), "b": P("model")}
    assert found["adamw"]["hyperparams"]["b"] == {"b1": P()}
    assert found["clip_by_norm"] == {
        "count": P(),
        "given": P(),
        "hyperparams": {"default": {"max_norm": P()}},
    }


def test_routed_leaves_keep_their_own_places():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    tx = jopt.route(jopt.adam(1e-3), big=("^w$|deep", factored()))
    inner = specs(jopt.sharding.state_sharding(tx, params))["route"]["inner"]
    assert inner["adam"]["mu"] == {"b": P("model")}
    assert inner["factored"]["m"] == {"w": P("data", "model"), "deep": SPECS["both"]["deep"]}
    assert inner["factored"]["r"]["w"] == P("data")


def test_a_bare_array_is_a_tree_too():
    mesh = mesh_of(2, 4)
    params = jax.device_put(jnp.ones((8, 8)), NamedSharding(mesh, P("model")))
    found = jopt.sharding.state_sharding(jopt.adam(1e-3), params)["adam"]
    assert (found["mu"].spec, found["count"].spec) == (P("model"), P())


def test_a_state_that_counts_leaves_apart():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    tx = jopt.adamw(1e-3, skips="^b$")
    grads = {**host_grads(0), "b": None}
    _, state = tx.update(grads, tx.init(host_params()), host_params())
    found = jopt.sharding.state_sharding(tx, params, state=state)
    assert specs(found["adamw"]["leaf_count"]) == {"b": P()}
    assert specs(found["adamw"]["nu"]) == SPECS["both"]
    placed = jax.device_put(state, found)
    assert placed["adamw"]["nu"]["w"].sharding == params["w"].sharding


def test_foreign_parts_are_told_by_path_and_shape():
    mesh = mesh_of(2, 4)
    params = put(host_params(), mesh, "both")
    foreign = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    tx = jopt.chain(foreign, jopt.adam(1e-3))
    found = specs(jopt.sharding.state_sharding(tx, params))
    adam = found["foreign"]["1"]["0"]
    assert adam == {"count": P(), "mu": SPECS["both"], "nu": SPECS["both"]}
    big = {"w": jax.ShapeDtypeStruct((128, 256), jnp.float32, sharding=params["w"].sharding)}
    factors = jopt.sharding.state_sharding(jopt.chain(optax.scale_by_factored_rms()), big)
    assert set(specs(factors)["foreign"]["v_row"].values()) == {P()}


def test_of_several_paths_the_longest_wins():
    params = {"w": np.ones((2, 2)), "a": {"w": np.ones((2, 2))}, "v": np.ones(3)}
    layout = layout_of("test", params)
    index = {name: i for i, name in enumerate(layout.names)}
    like = (0, 1)
    node = {"mu": params, "other": {"w": np.ones(2)}, "count": np.ones(())}
    assert by_path(layout, jax.tree.leaves(params), node) == {
        "mu": {
            "w": Place(index["w"], like),
            "a": {"w": Place(index["a/w"], like)},
            "v": Place(index["v"], (0,)),
        },
        "other": {"w": SHARED},
        "count": SHARED,
    }


def test_errors_say_what_is_missing():
    mesh, other = mesh_of(2, 4), mesh_of(4, 2)
    params = put(host_params(), mesh, "both")
    tx = jopt.adam(1e-3)
    with pytest.raises(jopt.TreeError) as error:
        jopt.sharding.state_sharding(tx, host_params())
    assert str(error.value) == (
        "state_sharding: no parameter is placed on a mesh\n"
        "  expected: at least one leaf with a NamedSharding over devices\n"
        "  found:    none among 3\n"
        "  Place the parameters with jax.device_put(params, NamedSharding(mesh, ...)), or give "
        "mesh=."
    )
    with pytest.raises(jopt.TreeError) as error:
        jopt.sharding.state_sharding(
            tx, {**params, "w": jax.device_put(params["w"], NamedSharding(other, P()))}
        )
    assert str(error.value) == (
        "state_sharding: a parameter is placed on another mesh than the rest\n"
        "  at:       w\n"
        "  expected: mesh (data: 2, model: 4) of devices [0, 1, 2, 3, 4, 5, 6, 7]\n"
        "  found:    mesh (data: 4, model: 2) of devices [0, 1, 2, 3, 4, 5, 6, 7]"
    )
    with pytest.raises(jopt.ConfigError) as error:
        jopt.sharding.state_sharding(optax.EmptyState, params)
    assert "state_sharding: this is no jopt transform\n  expected: a jopt.Transform" in str(
        error.value
    )
    assert "Wrap a foreign one: jopt.chain(tx)." in str(error.value)
    odd = SimpleNamespace(shape=(8,), dtype=jnp.float32, sharding=object())
    with pytest.raises(jopt.TreeError) as error:
        jopt.sharding.init(tx, {"w": odd}, mesh=mesh)
    assert str(error.value).startswith(
        "sharding.init: a parameter has a sharding without a mesh\n"
        "  at:       w\n"
        "  expected: a NamedSharding\n"
        "  found:    object\n"
    )
