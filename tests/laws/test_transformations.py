"""Updates under jit, vmap over hyperparameters, and grad with respect to them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jopt
from jopt.testing import structure
from tests.laws.harness import (
    assert_close,
    each,
    grads_like,
    has_number,
    numbers,
    params_of,
    stacked,
    step,
    subject,
)


@each
def test_jit_equals_no_jit(entry):
    structure.jit(subject(entry))


def trajectory(entry, tx, params, grads):
    """A function from hyperparameters to the parameters after all gradients."""

    def after(**values):
        def body(carry, g):
            return step(entry, tx, *carry, g), None

        state = jopt.set_hyperparams(tx.init(params), **values)
        return jax.lax.scan(body, (params, state), grads)[0][0]

    return after


@pytest.mark.usefixtures("x64")
@each
def test_vmap_over_hyperparameters_equals_separate_runs(entry):
    tx, params = entry.make(), params_of(entry, "float64")
    after = trajectory(entry, tx, params, stacked(entry, params, range(3)))
    rates = np.geomspace(1e-4, 1e-1, 64)
    grid = {"learning_rate": rates}
    if has_number(entry, "b1"):
        both = np.meshgrid(rates, [0.5, 0.9])
        grid = {"learning_rate": both[0].ravel(), "b1": both[1].ravel()}
    many = jax.jit(jax.vmap(lambda grid: after(**grid)))(grid)
    one = jax.jit(lambda grid: after(**grid))
    runs = [one({k: v[i] for k, v in grid.items()}) for i in range(len(grid["learning_rate"]))]
    separate = jax.tree.map(lambda *xs: jnp.stack(xs), *runs)
    assert_close(many, separate, rtol=1e-12)


@each
def test_vmap_over_a_state_with_many_learning_rates(entry):
    # An array in the place of a number, and in_axes that say so: a sweep without new code.
    tx, params = entry.make(), params_of(entry)
    rates = jnp.float32([0.003, 0.01, 0.03])
    state = tx.init(params)
    axes = jax.tree.map(lambda _: None, state)
    axes[entry.name]["hyperparams"]["default"]["learning_rate"] = 0
    swept = jopt.set_hyperparams(state, learning_rate=rates)
    grads = grads_like(entry, params, 0)

    def one(state):
        return step(entry, tx, params, state, grads)[0]

    many = jax.jit(jax.vmap(one, in_axes=(axes,)))(swept)
    runs = [jax.jit(one)(jopt.set_hyperparams(state, learning_rate=r)) for r in rates]
    assert_close(many, jax.tree.map(lambda *xs: jnp.stack(xs), *runs), rtol=2e-6)


# At a rate of 1 the first steps are as long as the distance that they begin with: a maximum of two
# equal numbers.
KINKED = {"dog", "dowg"}


@pytest.mark.usefixtures("x64")
@each
def test_gradient_through_updates_agrees_with_finite_differences(entry):
    tx, params = entry.make(), params_of(entry, "float64")
    after = trajectory(entry, tx, params, stacked(entry, params, range(4)))

    @jax.jit
    def loss(rate):
        ends = jax.tree.leaves(after(learning_rate=rate))
        return sum(jnp.sum(jnp.sin(x)) for x in ends)

    ((_, name), *_) = [n for n in numbers(tx.init(params)) if n[1] == "learning_rate"]
    rate = float(jopt.hyperparams(tx.init(params))[entry.name]["default"][name])
    rate *= 0.9 if entry.name in KINKED else 1
    h = 1e-5 * rate
    numeric = (loss(rate + h) - loss(rate - h)) / (2 * h)
    derivative = jax.grad if entry.reverse_mode else jax.jacfwd
    exact = derivative(loss)(rate)
    np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-8)
