"""Parameters keep their dtype; arithmetic and slots are at least float32; zeros make no NaN."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.core.spec import REGISTRY
from jopt.numerics import compute_dtype
from tests.catalog import CATALOG
from tests.laws.harness import (
    REAL,
    assert_close,
    each,
    extras,
    given,
    grads_like,
    params_of,
    run,
    stepper,
)

KINDS = [
    pytest.param(entry, dtype, id=f"{entry.name}-{dtype}")
    for entry in CATALOG
    for dtype in (*REAL, *(("complex64", "complex128") if entry.complex else ()))
]


def precision(dtype):
    wide = jnp.dtype(dtype) in (np.dtype("float64"), np.dtype("complex128"))
    return jax.enable_x64(True) if wide else contextlib.nullcontext()


@pytest.mark.parametrize(("entry", "dtype"), KINDS)
def test_every_dtype_is_kept(entry, dtype):
    with precision(dtype):
        tx, params = entry.make(), params_of(entry, dtype)
        state = tx.init(params)
        after, new = run(entry, tx, params, state, range(3))
        for p, q in zip(jax.tree.leaves(params), jax.tree.leaves(after), strict=True):
            assert (q.dtype, q.shape) == (p.dtype, p.shape)
            assert np.isfinite(np.asarray(q, np.complex128)).all()
        assert jax.tree.map(lambda x: x.dtype, new) == jax.tree.map(lambda x: x.dtype, state)
        assert not {x.dtype for x in jax.tree.leaves(state)} & {
            jnp.dtype("bfloat16"),
            jnp.dtype("float16"),
        }


@pytest.mark.parametrize(("entry", "dtype"), KINDS)
def test_zero_gradients_make_no_nan(entry, dtype):
    with precision(dtype):
        tx = entry.make()
        for params in (
            params_of(entry, dtype),
            jax.tree.map(jnp.zeros_like, params_of(entry, dtype)),
        ):
            state, zeros = tx.init(params), jax.tree.map(jnp.zeros_like, params)
            compiled = stepper(entry.name, tx)
            for _ in range(3):
                params, state = compiled(params, state, zeros)
            for x in jax.tree.leaves((params, state)):
                assert not np.isnan(np.asarray(x, np.complex128)).any()


@each
def test_a_zero_gradient_moves_nothing_without_decay(entry):
    decays = {h.name: 0.0 for h in REGISTRY[entry.name].hypers if h.name == "weight_decay"}
    tx, params = entry.make(**decays), params_of(entry)
    after, zeros = params, jax.tree.map(jnp.zeros_like, params)
    state = tx.init(params)
    for _ in range(3):
        after, state = stepper(entry.name, tx)(after, state, zeros)
    moved = any(
        not np.array_equal(p, q)
        for p, q in zip(jax.tree.leaves(params), jax.tree.leaves(after), strict=True)
    )
    assert moved != entry.still_on_zero_gradient


@each
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_step_of_a_half_precision_parameter_is_float32(entry, dtype):
    tx, params = entry.make(), params_of(entry, dtype)
    grads = grads_like(entry, params, 0)
    extra = extras(tx, params, grads)
    updates, _ = tx.update(given(entry, grads), tx.init(params), params, **extra)
    steps = [u.dtype for u in jax.tree.leaves(updates) if jnp.issubdtype(u.dtype, jnp.inexact)]
    assert set(steps) == {compute_dtype(dtype)}


@each
def test_gradients_may_be_narrower_than_parameters(entry):
    # Mixed precision: the model is differentiated in bfloat16, the weights are float32. The
    # result is that of the widened gradients.
    tx, params = entry.make(), params_of(entry)
    grads = grads_like(entry, jax.tree.map(lambda p: p.astype("bfloat16"), params), 0)
    wide = jax.tree.map(lambda g: g.astype("float32"), grads)
    compiled = stepper(entry.name, tx)
    got = compiled(params, tx.init(params), grads)
    assert_close(got, compiled(params, tx.init(params), wide), rtol=5e-7)


@each
def test_numbers_are_float32_whatever_the_parameters(entry):
    params = params_of(entry, "bfloat16")
    found = jax.tree.leaves(jopt.hyperparams(entry.make().init(params)))
    assert {x.dtype for x in found} <= {jnp.dtype("float32")}
