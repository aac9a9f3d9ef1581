"""On a TPU leaves whose arrays are read again go one by one; elsewhere compilers choose."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.core.algebra import Algebra
from jopt.core.batches import ON_CHIP, batched, in_parts
from jopt.numerics import newton_schulz


def barriers(tx, names, platform):
    """Those of a step of some leaves, as it is lowered: no such device or compiler is needed."""
    params = {name: jax.ShapeDtypeStruct((4, 4), jnp.float32) for name in names}
    state = jax.eval_shape(tx.init, params)
    lowered = jax.jit(tx.update).trace(params, state, params).lower(lowering_platforms=(platform,))
    return lowered.as_text().count("stablehlo.optimization_barrier")


@pytest.mark.parametrize(
    ("tx", "waits"),
    [
        (jopt.adafactor(), True),
        (jopt.lamb(), True),
        (jopt.adamw(), False),
        (jopt.adamw(state_dtype="int8"), True),
        (jopt.adamw(state_dtype="bfloat16"), False),
    ],
)
def test_a_leaf_that_is_read_again_waits_for_the_one_before_on_a_tpu_alone(tx, waits):
    assert barriers(tx, "abc", "tpu") - barriers(tx, "a", "tpu") == (2 if waits else 0)
    assert barriers(tx, "abc", "cpu") == barriers(tx, "a", "cpu")


def test_what_is_waited_for_on_a_tpu_is_the_new_parameter():
    # That is written anyway. XLA would write down an update that is waited for.
    params = {name: jax.ShapeDtypeStruct((4, 4), jnp.float32) for name in "ab"}
    tx = jopt.adafactor()
    state = jax.eval_shape(tx.init, params)
    step = jax.jit(lambda p, s: jopt.step(tx, p, s, p)[0])
    text = step.trace(params, state).lower(lowering_platforms=("tpu",)).as_text()
    (barrier,) = re.findall(r"optimization_barrier (%\S+), (%\S+) : tensor<4x4xf32>", text)
    assert f"{barrier[1]} = stablehlo.add %arg0, " in text  # the first leaf's, which "b" waits for


def test_a_leaf_waits_for_a_parameter_that_its_door_has_moved():
    params = {name: jax.ShapeDtypeStruct((64, 64), jnp.float32) for name in "ab"}
    tx = jopt.adamw(state_dtype="int8", kernel="pallas")
    state = jax.eval_shape(tx.init, params)
    step = jax.jit(lambda p, s: jopt.step(tx, p, s, p)[0])
    text = step.trace(params, state).lower(lowering_platforms=("tpu",)).as_text()
    assert re.search(r"optimization_barrier %arg1, %\S+ : tensor<64x64xf32>, tensor<64", text)


def test_a_tpu_takes_as_many_matrices_at_once_as_its_chip_holds():
    # Of these matrices in bfloat16 two fill the chip's share.
    params = {name: jax.ShapeDtypeStruct((2048, 2048), jnp.float32) for name in "abc"}
    assert ON_CHIP == 2 * 2 * 2048**2
    tx = jopt.muon()
    traced = jax.jit(tx.update).trace(params, jax.eval_shape(tx.init, params), params)

    def products(platform):
        return traced.lower(lowering_platforms=(platform,)).as_text().count("dot_general")

    # One of CUDA's is in the second look, for squares that left their range.
    assert products("tpu") == 2 * (products("cuda") - 1)


def test_parts_of_a_batch_are_the_batch():
    def batch(x, h):
        return newton_schulz(x, (3.4445, -4.7750, 2.0315), 5, 1e-7)

    algebra = Algebra("muon", batch, alike=True, owned={}, numbers={}, options={})
    draw = np.random.default_rng(0).standard_normal
    xs = [jnp.asarray(draw((8, 16)), jnp.float32) for _ in range(5)]
    whole, _ = batched(algebra, xs, [{}] * 5, [None] * 5)
    parts = jax.jit(lambda xs: in_parts(algebra, 2, xs))(xs)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
