"""Parameters keep their dtype; arithmetic and slots are at least float32; zeros make no NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jopt
from jopt.core.spec import REGISTRY
from jopt.numerics import compute_dtype
from jopt.testing import dtypes, structure
from jopt.testing.law import HALF, BrokenError
from tests.catalog import CATALOG
from tests.laws.harness import REAL, each, extras, given, grads_like, params_of, subject

KINDS = [
    pytest.param(entry, dtype, id=f"{entry.name}-{dtype}")
    for entry in CATALOG
    for dtype in (*REAL, *(("complex64", "complex128") if entry.complex else ()))
]


@pytest.mark.parametrize(("entry", "dtype"), KINDS)
def test_every_dtype_is_kept(entry, dtype):
    dtypes.dtypes(subject(entry), dtype)
    structure.structure(subject(entry), dtype)
    state = jax.eval_shape(entry.make().init, jax.ShapeDtypeStruct((4, 4), dtype))
    assert not {jnp.dtype(x.dtype) for x in jax.tree.leaves(state)} & set(map(jnp.dtype, HALF))


@pytest.mark.parametrize(("entry", "dtype"), KINDS)
def test_zero_gradients_make_no_nan(entry, dtype):
    dtypes.zeros(subject(entry), dtype)


@each
def test_a_zero_gradient_moves_nothing_without_decay(entry):
    decays = {h.name: 0.0 for h in REGISTRY[entry.name].hypers if h.name == "weight_decay"}
    undecayed = subject(entry, entry.make(**decays), decays=False)
    if entry.still_on_zero_gradient:
        dtypes.still(undecayed)
    else:
        with pytest.raises(BrokenError, match="gradients of zero move a parameter"):
            dtypes.still(undecayed)


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
    dtypes.narrow(subject(entry))


@each
def test_tiny_gradients_leave_parameters_finite(entry):
    dtypes.tiny(subject(entry))


@each
def test_numbers_are_float32_whatever_the_parameters(entry):
    params = params_of(entry, "bfloat16")
    found = jax.tree.leaves(jopt.hyperparams(entry.make().init(params)))
    assert {x.dtype for x in found} <= {jnp.dtype("float32")}
