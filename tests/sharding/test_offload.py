"""State that rests in the host's memory: where it lies, and that steps are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from jopt import ConfigError
from tests.sharding.test_owners import grammed

SHAPES = {"b": (8,), "k": (8, 64), "q": (16, 512), "v": (8, 64), "w": (8, 64)}
SPECS = {"b": P(), "k": P("x"), "q": P("x"), "v": P(None, "x"), "w": P("x")}


def placed(kind=AxisType.Auto):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,), devices=jax.devices()[:2])
    rng = np.random.default_rng(0)
    return {
        k: jax.device_put(rng.normal(size=s).astype("float32"), NamedSharding(mesh, SPECS[k]))
        for k, s in SHAPES.items()
    }


def kinds(state):
    return jax.tree.map(lambda x: x.sharding.memory_kind, state)


TRIED = {
    "adamw": jopt.chain(jopt.clip_by_global_norm(0.5), jopt.adamw(0.1)),
    "int8": jopt.adamw(0.1, state_dtype="int8"),
    "muon": jopt.recipes.muon_adamw(),
    "lbfgs": jopt.lbfgs(0.1, max_iter=1),
    "accumulate": jopt.accumulate(jopt.adamw(0.1), every=2),
}


@pytest.mark.parametrize(
    "name", ["adamw", *(pytest.param(n, marks=pytest.mark.slow) for n in TRIED if n != "adamw")]
)
def test_steps_are_those_of_a_state_on_the_device(name):
    tx, params = TRIED[name], placed()
    here = jax.tree.map(lambda x: x.sharding, params)
    there = jopt.sharding.offload(tx, params)
    state = jopt.sharding.init(tx, params, there)
    assert jax.tree.map(lambda x: x.sharding, state) == there

    def step(grads, state, params):
        return jopt.step(tx, grads, state, params)

    run = jax.jit(step, donate_argnums=(1, 2), out_shardings=(here, there))
    plain = jax.jit(step)
    p, own = jax.tree.map(jnp.copy, params), jopt.sharding.init(tx, params)
    for i in range(3):
        grads = jax.tree.map(lambda x, i=i: jnp.sin(x + i), params)
        p, state = run(grads, state, p)
        params, own = plain(grads, own, params)
    assert jax.tree.map(lambda x: x.sharding, state) == there
    for a, b in zip(jax.tree.leaves((p, state)), jax.tree.leaves((params, own)), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_what_belongs_to_parameters_rests_there_and_the_rest_does_not():
    tx, params = jopt.adamw(0.1), placed()
    there = jopt.sharding.offload(tx, params)["adamw"]
    assert {s.memory_kind for s in jax.tree.leaves((there["mu"], there["nu"]))} == {"pinned_host"}
    assert there["count"].memory_kind != "pinned_host"
    whole = jax.device_put(params, NamedSharding(there["count"].mesh, P()))
    split = jopt.sharding.zero1(tx, whole, "x")["adamw"]["mu"]["w"]
    both = jopt.sharding.offload(tx, whole, axis="x")["adamw"]["mu"]["w"]
    assert both == split.with_memory_kind("pinned_host")


def test_stacks_rest_there_too():
    params = {k: x for k, x in placed().items() if x.shape == (8, 64)}
    tx = jopt.sharding.owned(grammed(), params)
    there = jopt.sharding.offload(tx, params)
    stacks = jax.tree.leaves(there["grammed"]["owned"])
    assert {(s.memory_kind, s.spec) for s in stacks} == {("pinned_host", P("x"))}
    here = jax.tree.map(lambda x: x.sharding, params)
    run = jax.jit(tx.update, out_shardings=(here, there))
    updates, state = run(params, jopt.sharding.init(tx, params, there), params)
    want, own = jax.jit(tx.update)(params, tx.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, updates, want)
    jax.tree.map(np.testing.assert_array_equal, jopt.state_dict(state), jopt.state_dict(own))
    back = jopt.load_state_dict(state, jopt.state_dict(own))
    assert jax.tree.map(lambda x: x.sharding, back) == there


def test_a_memory_that_the_devices_lack_is_told():
    with pytest.raises(ConfigError, match=r"no such memory.*\n.*pinned_host"):
        jopt.sharding.offload(jopt.adamw(0.1), placed(), memory="attic")
