"""Muon: against torch with Newton-Schulz in one precision, its batching, its choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.optim._muon as torch_muon

import jopt
from jopt.interop.torch import optimizer
from jopt.numerics import newton_schulz
from tests.oracles.optim_db import configurations

OPTIM_DB = configurations("Muon")
SHAPES = {"tall": (6, 3), "wide": (3, 6), "wide_too": (3, 6), "square": (4, 4), "row": (1, 5)}
CASES = [
    {},
    {"lr": 0.05},
    {"lr": 0.05, "weight_decay": 0.0},
    {"lr": 0.05, "momentum": 0.5},
    {"lr": 0.05, "nesterov": False},
    {"lr": 0.05, "adjust_lr_fn": "original"},
    {"lr": 0.05, "adjust_lr_fn": "match_rms_adamw"},
    {"lr": 0.05, "ns_steps": 3, "eps": 1e-3},
    {"lr": 0.05, "ns_coefficients": (2.0, -1.5, 0.5)},
]


def data(steps, dtype, seed=0):
    rng = np.random.default_rng(seed)
    params = {k: rng.normal(size=s).astype(dtype) for k, s in SHAPES.items()}
    grads = [{k: rng.normal(size=s).astype(dtype) for k, s in SHAPES.items()} for _ in range(steps)]
    return params, grads


def in_torch(params, grads, kwargs):
    leaves = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in params.items()}
    opt = torch.optim.Muon(list(leaves.values()), **kwargs)
    for g in grads:
        for k, p in leaves.items():
            p.grad = torch.tensor(g[k])
        opt.step()
    return {k: p.detach().numpy() for k, p in leaves.items()}


def in_jopt(params, grads, tx):
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *grads)
    params = jax.tree.map(jnp.asarray, params)

    def step(carry, g):
        p, s = carry
        u, s = tx.update(g, s, p)
        return (jopt.apply_updates(p, u), s), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), stacked)[0][0])(params)


def distance(a, b):
    return max(np.max(np.abs(a[k] - np.asarray(b[k]))) / np.max(np.abs(a[k])) for k in a)


def in_full_precision(grad, coefficients, steps, eps):
    a, b, c = coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


@pytest.mark.sampled
@pytest.mark.parametrize("kwargs", OPTIM_DB + CASES, ids=str)
def test_float64_with_newton_schulz_in_float64(kwargs, x64, monkeypatch):
    monkeypatch.setattr(torch_muon, "_zeropower_via_newtonschulz", in_full_precision)
    params, grads = data(100, np.float64)
    tx = optimizer("Muon", **kwargs)
    tx = jopt.muon(**{**tx.config, "ns_dtype": "float64"})
    assert distance(in_torch(params, grads, kwargs), in_jopt(params, grads, tx)) < 1e-12


@pytest.mark.sampled
@pytest.mark.parametrize("kwargs", OPTIM_DB + CASES, ids=str)
def test_float32_with_newton_schulz_in_bfloat16(kwargs):
    params, grads = data(100, np.float32)
    tx = optimizer("Muon", **kwargs)
    assert distance(in_torch(params, grads, kwargs), in_jopt(params, grads, tx)) < 1e-3


def test_a_batch_is_as_good_as_one_by_one():
    x = jax.random.normal(jax.random.key(0), (5, 4, 7))
    coefficients = (3.4445, -4.7750, 2.0315)
    whole = newton_schulz(x, coefficients, 5, 1e-7, jnp.float32)
    for i in range(5):
        alone = newton_schulz(x[i : i + 1], coefficients, 5, 1e-7, jnp.float32)
        np.testing.assert_allclose(whole[i], alone[0], rtol=2e-5, atol=2e-6)
    values = jnp.linalg.svd(whole, compute_uv=False)
    assert 0.6 < float(values.min()) < float(values.max()) < 1.2


def test_kernels_stored_in_out_move_as_their_transpose_does():
    params, grads = data(5, np.float32)
    turned, turned_grads = jax.tree.map(np.transpose, (params, grads))
    a = in_jopt(params, grads, jopt.muon(0.05))
    b = in_jopt(turned, turned_grads, jopt.muon(0.05, kernels="in_out"))
    for name in SHAPES:
        np.testing.assert_allclose(a[name], b[name].T, rtol=0, atol=2e-3)


def test_a_bfloat16_buffer_is_not_normalised_in_place():
    """torch 2.13 writes the orthogonalised matrix over the buffer in this configuration."""
    params = {"w": jnp.zeros((3, 4), jnp.bfloat16)}
    grads = {"w": jnp.full((3, 4), 2.0, jnp.bfloat16)}
    tx = jopt.muon(0.05, nesterov=False)
    _, state = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(state["muon"]["momentum_buffer"]["w"], 0.1, rtol=1e-6)


def test_all_matrices_of_a_shape_are_one_product():
    tx = jopt.muon(0.05)

    def products(params):
        program = jax.jit(tx.update).lower(params, tx.init(params), params)
        return program.as_text().count("dot_general")

    wide = {f"wide{i}": jnp.ones((8, 16)) for i in range(6)}
    tall = {f"tall{i}": jnp.ones((16, 8)) for i in range(3)}
    assert products(wide) == products(tall) == 3 * 5  # three products a step, for all at once
    assert products(wide | tall) == 2 * 3 * 5  # neither is turned over to join the other


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"adjust_lr": "other"}, "adjust_lr is unknown"),
        ({"kernels": "hwio"}, "kernels is unknown"),
        ({"ns_coefficients": (1.0, 2.0)}, "ns_coefficients are"),
        ({"ns_steps": 100}, "ns_steps is out of range"),
        ({"momentum": -0.1}, "momentum is out of range"),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(jopt.ConfigError, match=text):
        jopt.muon(**arguments)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_only_matrices(shape):
    with pytest.raises(jopt.TreeError, match=r"2 axes only\n  at:       enc/w"):
        jopt.muon().init({"enc": {"w": jnp.zeros(shape)}})
