"""On a TPU leaves whose arrays are read again go one by one; elsewhere compilers choose."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.core import chip_loads


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
    assert chip_loads.ON_CHIP == 2 * 2 * 2048**2
    tx = jopt.muon()
    traced = jax.jit(tx.update).trace(params, jax.eval_shape(tx.init, params), params)

    def products(platform):
        return traced.lower(lowering_platforms=(platform,)).as_text().count("dot_general")

    # One of CUDA's is in the second look, for squares that left their range.
    assert products("tpu") == 2 * (products("cuda") - 1)


def waits(text):
    """The shapes of what is in each barrier of two leaves or more."""
    found = re.findall(r"optimization_barrier .* : (.*)", text)
    return [re.findall(r"tensor<(\w+)>", line) for line in found if line.count("tensor") > 1]


def test_loads_of_a_tpu_wait_for_the_new_parameters_of_the_one_before(monkeypatch):
    monkeypatch.setattr(chip_loads, "ON_CHIP", 2 * 2 * 8 * 16)
    params = {name: jax.ShapeDtypeStruct((8, 16), jnp.float32) for name in "abc"}
    tx = jopt.muon()
    traced = jax.jit(lambda p, s: jopt.step(tx, p, s, p)[0]).trace(
        params, jax.eval_shape(tx.init, params)
    )
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    # "b" and "c" wait for "a" alone: three are halved as one and two.
    assert [wait for wait in waits(text) if "8x16xf32" in wait] == [["8x16xf32"] * 3]
    assert not any("8x16xf32" in wait for wait in waits(traced.lower().as_text()))


def as_on_a_tpu(*xs, **ways):
    return ways.get("tpu", ways["default"])(*xs)


@pytest.mark.parametrize("axes", [None, {"^a$": "layer i o"}])
def test_loads_are_what_all_are_at_once(monkeypatch, axes):
    draw = np.random.default_rng(0).standard_normal
    shapes = {"a": (2, 8, 16) if axes else (8, 16), "b": (8, 16), "c": (16, 8), "d": (8, 16)}
    tx = jopt.muon(0.1, ns_dtype="float64", axes=axes)
    monkeypatch.setattr(jax.lax, "platform_dependent", as_on_a_tpu)
    steps = []
    with jax.enable_x64(True):
        params = {name: jnp.asarray(draw(shape)) for name, shape in shapes.items()}
        grads = jax.tree.map(lambda x: x[::-1] + 1, params)
        for fit in (4, 1):
            monkeypatch.setattr(chip_loads, "ON_CHIP", fit * 8 * 8 * 16)
            steps.append(jax.jit(lambda *xs: tx.update(*xs))(grads, tx.init(params), params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *steps)
