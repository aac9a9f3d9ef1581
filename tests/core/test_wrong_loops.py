"""Odd arguments of `jopt.minimize` and `jopt.plot`."""

import re

import jax
import jax.numpy as jnp
import pytest

import jopt
from jopt import schedules as s
from jopt.plot import schedule, values

X = jnp.ones(2)


def bowl(x, *_):
    return jnp.sum(x**2)


WRONG = [
    (lambda: jopt.minimize(X, bowl), "fun is no function", "minimize\\(fun, x0\\)"),
    (lambda: jopt.minimize(bowl, "x"), "a leaf is no array", "found:    str"),
    (lambda: jopt.minimize(bowl, None), "x0 has no leaf to move", "found:    None"),
    (lambda: jopt.minimize(bowl, X, "data"), "a leaf is no array", r"at:       args\[0\]"),
    (lambda: jopt.minimize(bowl, X, {"a": "b"}), "a leaf is no array", r"at:       args\[0\]/a"),
    (lambda: jopt.minimize(bowl, X, tx="adam"), "chain: this is no transform", "'adam'"),
    (lambda: jopt.minimize(bowl, X, max_steps="3"), "max_steps is not a number", "'3'"),
    (lambda: jopt.minimize(bowl, X, max_steps=True), "max_steps is not a number", "True"),
    (lambda: jopt.minimize(bowl, X, tolerance_grad=[1]), "tolerance_grad is not a number", "1"),
    (lambda: jopt.minimize(bowl, X, tolerance_value=None), "tolerance_value is not a", "None"),
    (lambda: jopt.minimize(bowl, X, has_aux=1), "has_aux is yes or no", "found:    1"),
    (lambda: jopt.minimize(bowl, X, has_aux=True), "fun gives no pair", "has_aux=True"),
    (lambda: jopt.minimize(bowl, X, key="seed"), "key= is no random key", "jax.random.key"),
    (lambda: jopt.minimize(bowl, X, method="newton"), "there is no such method", "'newton_cg'"),
    (lambda: jopt.minimize(bowl, X, method=None), "there is no such method", "found:    None"),
    (
        lambda: jopt.minimize(bowl, X, method="newton_cg", bounds=(0.0, None)),
        "method='newton_cg' knows no bounds",
        "method='lbfgs' for bounds=",
    ),
    (
        lambda: jopt.minimize(bowl, X, method="newton_cg", tx=jopt.sgd(0.1)),
        "takes no transform",
        "no method= for tx=",
    ),
    (lambda: jopt.minimize(lambda x: "s", X), "a leaf is no array", "the value of fun"),
    (
        lambda: jopt.minimize(lambda x: bowl(x) if x[0] > 0 else 0.0, X),
        "minimize: fun branches in Python",
        "jax.lax.cond",
    ),
    (lambda: values("x", 3), "plot: no schedule", "found:    'x'"),
    (lambda: values(None, 3), "plot: no schedule", "found:    None"),
    (lambda: values(3, s.constant(1.0)), "steps is a number of steps", "jopt.schedules.constant"),
    (lambda: values(s.constant(1.0), -3), "steps is a number of steps", "at least 0"),
    (lambda: values(s.constant(1.0), 2.5), "steps is a number of steps", "2.5"),
    (lambda: values(s.plateau(1.0), 3, metric="abc"), "drawn against a metric", "3 numbers"),
    (lambda: values(lambda t: t if t < 2 else 0, 3), "plot: the schedule branches", "jnp.where"),
    (lambda: schedule(s.constant(1.0), 3, "ax"), "ax= is no axes", "found:    'ax'"),
]


@pytest.mark.parametrize(("call", "problem", "more"), WRONG)
def test_odd_arguments_are_told(call, problem, more):
    with pytest.raises(jopt.JoptError, match=re.compile(f"{problem}.*{more}", re.DOTALL)):
        call()


def test_limits_beyond_int32_and_of_arrays():
    found = jopt.minimize(bowl, X, max_steps=10**12, tolerance_grad=jnp.float32(1e-4))
    assert found.converged
    assert jax.jit(lambda n: jopt.minimize(bowl, X, max_steps=n).steps)(0) == 0
