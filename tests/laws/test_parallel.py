"""Sharded equals whole, and the state is sharded as the parameters are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jopt.testing import devices
from tests.laws.harness import assert_close, each, params_of, stacked, step, stepper, subject


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.array(jax.devices()[:8]), ("d",))


def rows(mesh, tree):
    """Every leaf sharded along its first axis; scalars on every device."""
    return jax.tree.map(lambda x: NamedSharding(mesh, P("d") if x.ndim else P()), tree)


@each
def test_sharded_equals_whole_and_slots_are_sharded_like_parameters(entry):
    devices.sharded(subject(entry))


@each
def test_init_under_jit_takes_sharded_parameters(entry, mesh):
    tx, params = entry.make(), params_of(entry)
    sharded = jax.device_put(params, rows(mesh, params))
    state = jax.jit(tx.init)(sharded)
    assert_close(state, tx.init(params), rtol=0)


@pytest.mark.usefixtures("x64")
@each
def test_data_parallel_in_shard_map(entry, mesh):
    # Each device has the gradient of its own part of the batch; the mean goes to the update.
    tx, params = entry.make(), params_of(entry, "float64")
    batch = stacked(entry, params, range(8))
    mean = jax.tree.map(lambda g: jnp.mean(g, axis=0), batch)
    want = stepper(entry.name, tx)(params, tx.init(params), mean)

    def local(params, state, batch):
        grads = jax.tree.map(lambda g: jax.lax.pmean(g[0], "d"), batch)
        return step(entry, tx, params, state, grads)

    mapped = jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=(P(), P(), P("d")), out_specs=(P(), P()))
    )
    assert_close(mapped(params, tx.init(params), batch), want, rtol=1e-11)
