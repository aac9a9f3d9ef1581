"""`jopt.minimize` of few parameters is compiled as a handful of kernels for a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.minimize.points import FEW

METHODS = {"lbfgs": (10, 3), "newton_cg": (5, 0)}
"""Of few parameters so many kernels are calls, and of many."""


def bowl(x, a=1.0):
    return jnp.sum((x - a) ** 4 + x**2)


def kernels(run, *args):
    lines = jax.jit(run).lower(*args).compile().as_text().splitlines()
    return sum(" call(" in x and "xla_cpu_small_call" in x for x in lines)


@pytest.mark.slow
@pytest.mark.parametrize("size", [FEW, FEW + 1])
@pytest.mark.parametrize("method", METHODS)
def test_few_and_many_end_alike(size, method):
    found = jopt.minimize(bowl, jnp.zeros(size), method=method)
    np.testing.assert_allclose(found.params, 0.4102453, rtol=1e-5)
    count = kernels(lambda x: jopt.minimize(bowl, x, method=method), jnp.zeros(size))
    assert count == METHODS[method][size > FEW]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_within_programs_and_derivatives(method):
    def at(a):
        return jopt.minimize(bowl, jnp.zeros(2), a, method=method, tolerance_grad=1e-6).params

    slope = jax.jit(jax.jacfwd(at))(1.0)
    np.testing.assert_allclose(slope, 0.6760385, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(lambda a: jax.jvp(at, (a,), (a,))[1])(1.0), slope, rtol=1e-6)


@pytest.mark.slow
def test_over_devices_there_are_no_such_kernels():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    over = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    x0 = jax.device_put(jnp.zeros(8), over)
    assert kernels(lambda x: jopt.minimize(bowl, x), x0) == 0
    np.testing.assert_allclose(jopt.minimize(bowl, x0).params, 0.4102453, rtol=1e-5)


@pytest.mark.slow
def test_what_is_known_within_a_program_is_no_constant_of_a_kernel():
    run = jax.jit(lambda: jopt.minimize(bowl, jnp.zeros(3), bounds=(0.0, None)).params)
    np.testing.assert_allclose(run(), 0.4102453, rtol=1e-5)
