"""Adafactor with what torch lacks, against optax's parts in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.checkpoint.config import configuration

CASES = {
    "momentum and a cap, some factored": {
        "momentum": 0.9,
        "b2_max": 0.9,
        "min_dim_size_to_factor": 4,
    },
    "whole and absolute": {
        "b2_max": 0.8,
        "factored": False,
        "multiply_by_parameter_scale": False,
        "momentum": 0.5,
    },
}


def of_optax(rate, decay, **on):
    """The links of `optax.adafactor`, whose own β is of float32."""
    cap, momentum = on.get("b2_max", 1.0), on.get("momentum")
    factored, least = on.get("factored", True), on.get("min_dim_size_to_factor", 0)

    def beta(i, _):
        return jnp.minimum(1 - jnp.asarray(i + 1, "float64") ** -0.8, cap)

    links = [
        optax.scale_by_factored_rms(factored, 0.8, 0, least, 1e-30, beta),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_learning_rate(rate, flip_sign=False),
    ]
    if on.get("multiply_by_parameter_scale", True):
        links.append(optax.scale_by_param_block_rms())
    if momentum:
        links.append(optax.ema(momentum, debias=False, accumulator_dtype="float64"))
    return optax.chain(*links, optax.add_decayed_weights(rate * decay), optax.scale(-1))


@pytest.mark.parametrize("on", CASES.values(), ids=CASES)
def test_options_are_optaxs(on, x64):
    rng = np.random.default_rng(0)
    params = {
        k: jnp.asarray(rng.normal(size=s)) for k, s in {"b": 5, "w": (4, 6), "v": (3, 4)}.items()
    }
    grads = {k: jnp.asarray(rng.normal(size=(20, *p.shape))) for k, p in params.items()}
    ours = jopt.adafactor(0.1, eps1=1e-30, weight_decay=0.3, **on)

    def run(tx):
        def step(carry, g):
            p, state = carry
            updates, state = tx.update(g, state, p)
            p = optax.apply_updates(p, updates)
            return (p, state), p

        return jax.jit(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g)[1])(params, grads)

    mine, want = run(ours), run(of_optax(0.1, 0.3, **on))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), mine, want)


def test_what_is_off_is_in_neither_state_nor_file():
    off = jopt.adafactor(
        momentum=0.0,
        b2_max=None,
        factored=True,
        min_dim_size_to_factor=0,
        multiply_by_parameter_scale=True,
    )
    assert configuration(off)["adafactor"] == {
        "transform": "adafactor",
        "options": {"maximize": False},
        "switched_off": ["eps1"],
        "slots": ["nu", "nu_column", "nu_row"],
        "storage": configuration(jopt.adam())["adam"]["storage"],
        "groups": {},
    }
    on = configuration(jopt.adafactor(momentum=0.9, factored=False, min_dim_size_to_factor=128))
    assert on["adafactor"]["slots"] == ["mu", "nu"]
    assert on["adafactor"]["options"] == {
        "maximize": False,
        "factored": False,
        "min_dim_size_to_factor": 128,
    }


def test_momentum_is_stored_in_bfloat16():
    tx = jopt.adafactor(0.1, momentum=0.9, state_dtype={"mu": "bfloat16"})
    params = {"w": jnp.ones((64, 64))}
    updates, state = tx.update(params, tx.init(params), params)
    node = state["adafactor"]
    assert node["mu"]["w"].dtype == "bfloat16"
    assert node["nu_row"]["w"].dtype == "float32"
    np.testing.assert_allclose(updates["w"], -0.1 * 0.1, rtol=1e-6)
    np.testing.assert_allclose(node["mu"]["w"].astype("float32"), 0.01, rtol=2.0**-7)
    with pytest.raises(jopt.ConfigError, match="min_dim_size_to_factor"):
        jopt.adafactor(min_dim_size_to_factor=-1)
    with pytest.raises(jopt.ConfigError, match="factored"):
        jopt.adafactor(factored="no")


def test_complex_parameters_are_their_parts(x64):
    """Against a plain loop: both parts in one row and column, each with its own ν in a vector."""
    rng = np.random.default_rng(1)
    shapes = {"w": (3, 4), "tall": (3, 1), "b": (5,), "s": ()}
    start = {k: rng.normal(size=(*n, 2)) for k, n in shapes.items()}
    grads = {k: rng.normal(size=(8, *n, 2)) for k, n in shapes.items()}

    def mean(x, axis=None):
        return x.mean(axis, keepdims=axis is not None)

    def loop(p, gs):
        r = c = nu = 0.0
        for t, g in enumerate(gs, 1):
            mix, square = t**-0.8, g * g
            if p.ndim > 2:
                square = square.mean(-1)
                r += mix * (mean(square, -1) - r)
                c += mix * (mean(square, -2) - c)
                whole = (r * c / mean(r, -2))[..., None]
            else:
                nu += mix * (square - nu)
                whole = nu
            u = g / np.sqrt(whole)
            alpha = max(1e-3, np.sqrt(mean(p * p))) * min(0.1, t**-0.5)
            p = p * (1 - 0.1 * 0.3) - alpha * u / max(1.0, np.sqrt(mean(u * u)))
        return p

    tx = jopt.adafactor(0.1, eps1=1e-30, weight_decay=0.3)
    params = {k: jax.lax.complex(*jnp.moveaxis(jnp.asarray(x), -1, 0)) for k, x in start.items()}
    state = tx.init(params)
    assert state["adafactor"]["nu_row"]["tall"].dtype == jnp.float64
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    for t in range(8):
        g = {k: jax.lax.complex(*jnp.moveaxis(jnp.asarray(x[t]), -1, 0)) for k, x in grads.items()}
        params, state = step(g, state, params)
    for k, p in params.items():
        want = loop(start[k], grads[k])
        np.testing.assert_allclose(np.stack([p.real, p.imag], -1), want, rtol=1e-10, atol=1e-12)
