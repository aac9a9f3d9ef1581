"""What a state holds in few bits, how it says so, and how it becomes another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.checkpoint.config import configuration
from tests.core.helpers import error, same

PARAMS = {"w": jnp.ones((64, 256)), "b": jnp.ones(256)}


def grads(seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), PARAMS)


def after(tx, steps, params=PARAMS):
    state, update = tx.init(params), jax.jit(tx.update)
    for seed in range(steps):
        updates, state = update(grads(seed), state, params)
        params = jopt.apply_updates(params, updates)
    return params, state


def test_adamw_in_8_bits_takes_just_over_two_bytes_a_parameter():
    params = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
    state = jax.eval_shape(jopt.adamw(1e-3, state_dtype="int8").init, params)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert 2.031 < size / 2**20 < 2.032


def test_the_state_tells_the_map_and_the_block():
    node = jopt.adamw(1e-3, state_dtype="int8").init(PARAMS)["adamw"]
    kinds = jax.tree.map(lambda x: (x.shape, str(x.dtype)), {k: node[k] for k in ("mu", "nu")})
    whole = ((256,), "float32")
    assert kinds == {
        "mu": {
            "w": {"signed_dynamic_256": ((64, 256), "uint8"), "scale": ((64, 1), "float32")},
            "b": whole,
        },
        "nu": {
            "w": {"unsigned_dynamic_256": ((64, 256), "uint8"), "scale": ((64, 1), "float32")},
            "b": whole,
        },
    }


def test_a_checkpoint_records_how_slots_are_stored():
    said = configuration(jopt.asgd(1e-2, state_dtype="int8"))["asgd"]["storage"]
    assert said == {
        "block": 256,
        "dtype": "int8",
        "map": "dynamic",
        "whole": ["average", "eta", "weight"],
        "whole_under": 4096,
    }
    assert configuration(jopt.adamw(1e-3))["adamw"]["storage"] == "plain"


def test_a_checkpoint_of_another_storage_is_refused_and_converted():
    small, plain = jopt.adamw(1e-3, state_dtype="int8"), jopt.adamw(1e-3)
    params, state = after(small, 2)
    data = jopt.to_bytes(state, tx=small)
    with pytest.raises(jopt.CheckpointError, match="another configuration of the transform") as e:
        jopt.from_bytes(plain.init(params), data, tx=plain)
    assert "load with the one that was saved, then jopt.convert_state." in str(e.value)
    loaded = jopt.convert_state(plain, jopt.from_bytes(None, data), params)
    same(loaded, jopt.convert_state(plain, state, params))


@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
def test_moments_stay_near_those_of_full_precision(kind):
    plain = jopt.adamw(1e-3)
    want, exact = after(plain, 20)
    got, state = after(jopt.adamw(1e-3, state_dtype=kind), 20)
    node = jopt.convert_state(plain, state, PARAMS)["adamw"]
    for name in ("mu", "nu"):
        wide, far = exact["adamw"][name]["w"], node[name]["w"] - exact["adamw"][name]["w"]
        assert np.linalg.norm(far) < 0.05 * np.linalg.norm(wide), name
    moved = np.linalg.norm(want["w"] - PARAMS["w"])
    assert np.linalg.norm(got["w"] - want["w"]) < 0.05 * moved


def test_running_means_forget_what_nearest_rounding_would_keep():
    # Large gradients, then none in half of each block: ν falls by a thousandth a step, less
    # than half a cell of either storage.
    def nu(tx):
        params = {"w": jnp.ones((16, 256))}

        def turn(state, t):
            half = jnp.where((jnp.arange(256) % 2 == 0) & (t > 200), 0.0, 1.0)
            return tx.update({"w": jnp.broadcast_to(half, (16, 256))}, state, params)[1], None

        state = jax.lax.scan(turn, tx.init(params), jnp.arange(2200))[0]
        return jopt.convert_state(jopt.adam(0.0), state, params)["adam"]["nu"]["w"][:, ::2]

    exact = nu(jopt.adam(0.0)).mean()
    for kind in ("int8", "bfloat16"):
        assert abs(nu(jopt.adam(0.0, state_dtype=kind)).mean() / exact - 1) < 0.05, kind


def test_the_count_of_a_rule_that_does_not_read_it_survives_a_change_of_storage():
    small, plain, params = jopt.muon(0.1, state_dtype="int8"), jopt.muon(0.1), {"w": PARAMS["w"]}
    state = small.init(params)
    for seed in range(2):
        _, state = small.update({"w": grads(seed)["w"]}, state, params)
    assert state["muon"]["count"] == 2
    wide = jopt.convert_state(plain, state, params)
    assert wide["muon"]["count"] == 2
    assert jopt.convert_state(small, wide, params)["muon"]["count"] == 2


def test_convert_looks_into_wrappers_and_routes():
    def made(kind):
        inner = jopt.route(
            jopt.adamw(1e-3, state_dtype=kind), big=("^w$", jopt.muon(0.02, state_dtype=kind))
        )
        return jopt.accumulate(jopt.skip_nonfinite(inner), every=2)

    params, state = after(made("int8"), 4)
    wide = jopt.convert_state(made(None), state, params)
    assert jax.tree.structure(wide) == jax.tree.structure(made(None).init(params))
    same(jopt.convert_state(made(None), wide, params), wide)


def test_extend_keeps_codes_and_gives_new_leaves_fresh_ones():
    tx = jopt.adamw(1e-3, state_dtype="int8")
    params, state = after(tx, 2)
    more = {**params, "new": jnp.ones((32, 256))}
    node = jopt.extend(tx, state, more)["adamw"]
    same(node["mu"]["w"], state["adamw"]["mu"]["w"])
    same(node["mu"]["new"], tx.init(more)["adamw"]["mu"]["new"])
    assert int(node["leaf_count"]["new"]) == 0
    with pytest.raises(jopt.StateError, match="is not among the parameters"):
        jopt.extend(tx, state, {"w": params["w"]})


def test_frozen_groups_have_no_codes():
    tx = jopt.adamw(1e-3, state_dtype="int8", groups={"off": jopt.group("^w$", freeze=True)})
    assert set(tx.init(PARAMS)["adamw"]["mu"]) == {"b"}


def test_an_unknown_dtype_is_refused():
    with error(
        jopt.ConfigError,
        """adamw: no state is stored in this dtype
        expected: state_dtype='int8', 'bfloat16', {slot: one of these}, or None for as computed
        found:    'int4'""",
    ):
        jopt.adamw(1e-3, state_dtype="int4")


def test_a_state_stored_otherwise_is_refused():
    state = jopt.adamw(1e-3).init(PARAMS)
    with error(
        jopt.StateError,
        """adamw: 'mu' in the state is stored otherwise than state_dtype= says
        at:       w
        expected: int8
        found:    float32
        To carry it over: state = jopt.convert_state(tx, state, params).""",
    ):
        jopt.adamw(1e-3, state_dtype="int8").update(grads(), state, PARAMS)


def test_a_shard_never_ends_inside_a_block():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    tx = jopt.adamw(1e-3, state_dtype="int8")
    on = jax.NamedSharding(mesh, jax.P(None, "d"))
    fits = {"w": jax.ShapeDtypeStruct((4, 2048), jnp.float32, sharding=on)}
    found = jopt.sharding.state_sharding(tx, fits)["adamw"]["mu"]["w"]
    assert {k: s.spec for k, s in found.items()} == {
        "signed_dynamic_256": jax.P(None, "d"),
        "scale": jax.P(None, "d"),
    }
    tight = {"w": jax.ShapeDtypeStruct((4, 1024), jnp.float32, sharding=on)}
    with error(
        jopt.TreeError,
        """state_sharding: a shard would end inside a block of the 8-bit state
        at:       w
        expected: a multiple of 256 entries of axis 1 on each device
        found:    128 entries
        Shard another axis, or this one in fewer parts; or take state_dtype='bfloat16'.""",
    ):
        jopt.sharding.state_sharding(tx, tight)
