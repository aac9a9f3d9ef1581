"""Running means and bias corrections against float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jopt.numerics import adam_corrections, adam_direction, adam_moments, debias, lerp

decays = st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 0.9999])


@given(decays, st.integers(1, 2**31 - 1))
def test_debias_is_exact_to_float32(decay, t):
    b = np.float32(decay)
    found = float(debias(jnp.asarray(b), jnp.float32(t)))
    with np.errstate(divide="ignore"):
        want = -np.expm1(np.float64(np.float32(t)) * np.log(np.float64(b)))
    assert found == pytest.approx(want, rel=5e-7)


def test_the_direct_form_would_lose_digits_at_the_first_step():
    b = np.float32(0.999)
    want = 1 - np.float64(b)
    direct = float(1 - jnp.asarray(b) ** jnp.float32(1))
    kept = float(debias(jnp.asarray(b), jnp.float32(1)))
    assert abs(kept / want - 1) < 2e-7
    assert abs(direct / want - 1) < 1e-4


@given(st.integers(1, 200), decays, decays)
def test_adam_follows_float64(t, b1, b2):
    rng = np.random.default_rng(t)
    grads = rng.normal(size=(min(t, 20), 4)).astype(np.float32)
    mu = nu = jnp.zeros(4)
    m = v = np.zeros(4)
    c1, c2 = np.float32(b1), np.float32(b2)
    for g in grads:
        mu, nu = adam_moments(jnp.asarray(g), mu, nu, jnp.asarray(c1), jnp.asarray(c2))
        m = np.float64(c1) * m + (1 - np.float64(c1)) * g
        v = np.float64(c2) * v + (1 - np.float64(c2)) * np.float64(g) ** 2
    n = len(grads)
    k = adam_corrections(jnp.asarray(c1), jnp.asarray(c2), jnp.float32(n))
    found = adam_direction(mu, nu, jnp.float32(1e-8), **k).value
    want = m / (1 - np.float64(c1) ** n) / (np.sqrt(v / (1 - np.float64(c2) ** n)) + 1e-8)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@given(*[st.floats(-100, 100, width=32, allow_subnormal=False)] * 2)
def test_lerp_at_its_start_is_its_start(a, b):
    assert float(lerp(jnp.float32(a), jnp.float32(b), jnp.float32(0))) == a


def test_moments_differentiate():
    def direction(b1):
        mu, nu = adam_moments(jnp.float32(2), jnp.float32(1), jnp.float32(1), b1, jnp.float32(0.9))
        return adam_direction(mu, nu, jnp.float32(1e-8), jnp.float32(1), jnp.float32(1)).value

    # mu = 2 - b1, nu = 1.3
    assert float(jax.grad(direction)(jnp.float32(0.5))) == pytest.approx(-1 / np.sqrt(1.3))
