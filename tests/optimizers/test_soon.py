"""`jopt.minimize` of few parameters is compiled with options of its own, where that is possible."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt

soon = importlib.import_module("jopt.minimize.soon")


def bowl(x, a=1.0):
    return jnp.sum((x - a) ** 4 + x**2)


many = pytest.param(soon.FEW + 1, marks=pytest.mark.slow)


@pytest.mark.parametrize("size", [2, many])
def test_few_parameters_are_compiled_quickly_and_not_within_a_program(size):
    x0 = jnp.zeros(size)
    ways = soon._quick, soon.by_pairs
    before = [way._cache_size() for way in ways]
    found = jopt.minimize(lambda x: bowl(x), x0)
    after = [way._cache_size() - n for way, n in zip(ways, before, strict=True)]
    assert after == ([1, 0] if size <= soon.FEW else [0, 1])
    np.testing.assert_allclose(found.params, 0.4102453, rtol=1e-5)


@pytest.mark.slow
def test_within_programs_and_derivatives_it_is_compiled_as_they_are():
    slope = jax.jit(jax.jacfwd(lambda a: jopt.minimize(bowl, jnp.zeros(2), a).params))(1.0)
    np.testing.assert_allclose(slope, 0.6760385, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kernels"), [(10, 10), (soon.FEW + 1, 3)])
def test_what_is_one_kernel_within_programs_too(x64, size, kernels):
    found = jax.jit(lambda x: jopt.minimize(bowl, x)).lower(jnp.zeros(size)).compile()
    lines = found.as_text().splitlines()
    assert sum(" call(" in x and "xla_cpu_small_call" in x for x in lines) == kernels


@pytest.mark.slow
def test_an_option_that_xla_does_not_know_is_asked_for_once(monkeypatch):
    odd = jax.jit(
        soon.by_pairs.__wrapped__, static_argnums=(0, 1, 2), compiler_options={"xla_odd": False}
    )
    monkeypatch.setattr(soon, "_quick", odd)
    monkeypatch.setattr(soon, "refused", [])
    found = jopt.minimize(lambda x: bowl(x), jnp.zeros(2))
    np.testing.assert_allclose(found.params, 0.4102453, rtol=1e-5)
    assert len(soon.refused) == 1
