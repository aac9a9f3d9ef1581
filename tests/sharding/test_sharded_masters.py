"""Masters lie where their parameters do, and sharded runs are whole ones."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jopt
from tests.core.helpers import same
from tests.wrappers.masters import each_run, grads_at


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@each_run
def test_masters_lie_where_their_parameters_do(run, kind):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    place = {"w": NamedSharding(mesh, P("x", "y")), "b": NamedSharding(mesh, P("y"))}
    whole = {"w": jnp.ones((16, 32), "bfloat16"), "b": jnp.ones(32, "float16")}
    tx = jopt.master_weights(jopt.adamw(0.01))
    params = jax.tree.map(jax.device_put, whole, place)
    state = jopt.sharding.init(tx, params)
    assert jopt.sharding.state_sharding(tx, params)["master_weights"]["master"] == place

    def grads(i):
        return jax.tree.map(jax.device_put, grads_at(i, whole), place)

    found = run(tx, params, range(3), state, grads)
    assert found[1]["master_weights"]["master"]["w"].sharding.is_equivalent_to(place["w"], 2)
    assert found[0]["w"].sharding.is_equivalent_to(place["w"], 2)
    same(found, run(tx, whole, range(3), grads=lambda i: grads_at(i, whole)))
