"""Running states of optax's line searches move in, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jopt
from jopt.interop.optax import export_state, import_state

PARAMS = {"w": jnp.array([1.5, -0.5, 2.0]), "b": jnp.array(0.3)}
CASES = {
    "backtracking": (
        jopt.scale_by_backtracking_linesearch(20),
        optax.scale_by_backtracking_linesearch(20),
    ),
    "zoom": (jopt.scale_by_zoom_linesearch(20), optax.scale_by_zoom_linesearch(20)),
}


def loss(params):
    return jnp.sum(jnp.array([1.0, 10.0, 3.0]) * params["w"] ** 4) + jnp.square(params["b"] - 1)


def run(tx, params, state, steps):
    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(loss)(params)
        found = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, found[0]), found[1]

    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            params, state = step(params, state)
    return params, state


@pytest.mark.parametrize("name", ["backtracking", pytest.param("zoom", marks=pytest.mark.slow)])
def test_a_search_goes_on_from_its_last_step_and_back(name):
    mine, other = CASES[name]
    tx, theirs = jopt.chain(jopt.sgd(0.3), mine), optax.chain(optax.sgd(0.3), other)
    params, old = run(theirs, PARAMS, theirs.init(PARAMS), 3)
    state = import_state(tx, params, old)
    node = state[next(iter(mine.parts))]
    assert float(node["step_size"]["default"]) == float(old[1].learning_rate) != 1.0
    back = export_state(tx, params, state, theirs.init(params))
    assert float(back[1].learning_rate) == float(old[1].learning_rate)
    if name == "backtracking":  # zooming has other trials, and so other lengths
        ours, _ = run(tx, params, state, 4)
        want, _ = run(theirs, params, old, 4)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
