"""On a TPU leaves whose arrays are read again go one by one; elsewhere compilers choose."""

import jax
import jax.numpy as jnp
import pytest

import jopt


def barriers(tx, names, platform):
    """Those of a step of some leaves, as it is lowered: no such device or compiler is needed."""
    params = {name: jax.ShapeDtypeStruct((4, 4), jnp.float32) for name in names}
    state = jax.eval_shape(tx.init, params)
    lowered = jax.jit(tx.update).trace(params, state, params).lower(lowering_platforms=(platform,))
    return lowered.as_text().count("stablehlo.optimization_barrier")


@pytest.mark.parametrize(
    ("tx", "waits"), [(jopt.adafactor(), True), (jopt.lamb(), True), (jopt.adamw(), False)]
)
def test_a_leaf_that_is_read_again_waits_for_the_one_before_on_a_tpu_alone(tx, waits):
    assert barriers(tx, "abc", "tpu") - barriers(tx, "a", "tpu") == (2 if waits else 0)
    assert barriers(tx, "abc", "cpu") == barriers(tx, "a", "cpu")
